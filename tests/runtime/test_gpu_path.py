"""What runs on a GPU, from loading to text, with the kernels interpreted on a CPU.

The texts are those of the CPU's own path. `test_gpu.py` holds the same on a GPU.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from ramet.kernels.gpu.backend import GpuBackend
from ramet.kernels.gpu.runs import Tuning
from ramet.runtime import runner
from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.models import ModelShape, load_model
from ramet.runtime.models.config import DecoderConfig
from ramet.runtime.models.linear import FloatLinear
from ramet.runtime.models.linear_gpu import GpuLinear
from ramet.runtime.models.llama import LlamaDecoder
from ramet.runtime.models.weights import Checkpoint
from ramet.runtime.tokenizer import Tokenizer
from tests.kernels.gpu.interpreter import mend
from tests.runtime.greedy import drain, submit
from tests.runtime.models.tiny import NATIVE, saved

mend()

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="test_gpu.py has it on the GPU itself"),
]

PROMPTS = [[*range(20), 31], [*range(20), 32, 33], [7, 8]]


def decoder(family: str) -> LlamaDecoder:
    """As `load_model` makes it for a GPU."""
    folder = saved(family)
    config = DecoderConfig.from_dict(NATIVE[family]().to_dict())
    return LlamaDecoder(config, shape(folder), Checkpoint(folder, torch.float32), GpuLinear)


def shape(folder: Path) -> ModelShape:
    return load_model(str(folder), dtype="float32", cache=folder)[0].shape


def texts(core: EngineCore, prompts: Sequence[list[int]] = PROMPTS) -> list[list[int]]:
    return drain(core, [submit(core, core.open(p), 3) for p in prompts], audit=True)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines take the GPU's backend, and share from the first block on."""
    shares = Tuning(min_saved=1, partial_cost=0)
    monkeypatch.setattr(runner, "backend_for", lambda cache, *_: GpuBackend(cache, shares))


@pytest.mark.parametrize("family", ["llama-biased", "qwen3", "mistral"])
def test_greedy_texts_are_those_of_the_cpu(
    family: str, byte_tokenizer: Tokenizer, request: pytest.FixtureRequest
) -> None:
    config = EngineConfig(num_blocks=32, block_size=4)
    model = load_model(str(saved(family)), dtype="float32", cache=saved(family))[0]
    expected = texts(EngineCore(model, byte_tokenizer, config))
    request.getfixturevalue("on_gpu")
    assert texts(EngineCore(decoder(family), byte_tokenizer, config)) == expected


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float8"])
def test_keys_and_values_are_kept_in_what_was_asked_for(
    kv_dtype: str, byte_tokenizer: Tokenizer
) -> None:
    config = EngineConfig(device="cuda", kv_dtype=kv_dtype, num_blocks=32, block_size=4)
    core = EngineCore(decoder("llama"), byte_tokenizer, config)
    layout = core.runner.layout
    assert layout.dtype == {"bfloat16": torch.bfloat16, "float8": torch.float8_e4m3fn}[kv_dtype]
    assert layout.block_bytes == 3 * 2 * 2 * 4 * 12 * layout.dtype.itemsize
    assert core.runner.backend.cache.data.dtype == layout.dtype
    assert [len(text) for text in texts(core, PROMPTS[2:])] == [3]


def test_a_linear_layer_does_what_it_does_on_a_cpu() -> None:
    draw = torch.Generator().manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=draw)

    weight, bias, norm = normal(24, 16), normal(24), normal(16)
    x, residual, gate_up = normal(5, 16), normal(5, 24), normal(5, 32)
    for layer in (None, bias):
        cpu, gpu = FloatLinear(weight, layer), GpuLinear(weight, layer)
        for got, expected in (
            (gpu(x), cpu(x)),
            (gpu.of_norm(x, norm, 1e-5), cpu.of_norm(x, norm, 1e-5)),
            (gpu.added_to(residual.clone(), x), cpu.added_to(residual.clone(), x)),
            (
                gpu.of_gate_added_to(residual.clone(), gate_up),
                cpu.of_gate_added_to(residual.clone(), gate_up),
            ),
        ):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)

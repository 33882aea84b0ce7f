"""On a GPU: the texts of a CPU in float32, whatever is shared, batched, captured or preempted."""

from typing import Any

import pytest
import torch

from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.graphs import CudaCapture
from ramet.runtime.models import load_model
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.greedy import Tokens, drain, excuses_of, submit
from tests.runtime.models.tiny import FAMILIES, saved, transformers_model

pytestmark = pytest.mark.gpu

PROMPTS = [[*range(40), last] for last in range(40, 52)] + [[7], [9, 8, 7], [*range(100, 131)]]
COUNT = 48

SETTINGS: dict[str, dict[str, Any]] = {
    "as they come": {},
    "without graphs": {"cuda_graphs": False},
    "without sharing": {"sharing": False},
    "small blocks and chunks": {"block_size": 4, "prefill_chunk": 5, "step_tokens": 32},
    "few blocks": {"block_size": 4, "num_blocks": 120},
    "few at once": {"max_sequences": 3},
}


def core(name: str, tokenizer: Tokenizer, device: str, **settings: Any) -> EngineCore:
    """An engine in float32."""
    model = load_model(name, dtype="float32", cache=EngineConfig().models, device=device)[0]
    settings.setdefault("num_blocks", 1024)
    return EngineCore(model, tokenizer, EngineConfig(device=device, **settings))


def texts(engine: EngineCore, prompts: list[Tokens]) -> list[Tokens]:
    return drain(engine, [submit(engine, engine.open(p), COUNT) for p in prompts], audit=True)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_texts_are_those_of_the_cpu(
    family: str, settings: dict[str, Any], byte_tokenizer: Tokenizer, request: pytest.FixtureRequest
) -> None:
    folder = saved(family)
    expected = texts(core(str(folder), byte_tokenizer, "cpu"), PROMPTS)
    got = texts(core(str(folder), byte_tokenizer, "cuda", **settings), PROMPTS)
    excused = excuses_of(request.config).check(
        f"{family} on a GPU", PROMPTS, got, expected, transformers_model(folder)
    )
    assert excused <= 1


def test_a_real_model_writes_what_it_writes_on_a_cpu(
    smollm2: tuple[Any, Any], request: pytest.FixtureRequest
) -> None:
    model, directory = smollm2
    tokenizer = Tokenizer.load(directory, eos_ids=model.shape.eos)
    expected = texts(EngineCore(model, tokenizer, EngineConfig(num_blocks=1024)), PROMPTS)
    got = texts(core("smollm2-135m", tokenizer, "cuda"), PROMPTS)
    excuses_of(request.config).check(
        "SmolLM2 on a GPU", PROMPTS, got, expected, transformers_model(directory)
    )


def test_decode_steps_are_captured(byte_tokenizer: Tokenizer) -> None:
    engine = core(str(saved("llama")), byte_tokenizer, "cuda")
    replay, replayed = engine.runner.replay, 0
    assert replay is not None

    def counted(*step: Any) -> Any:
        nonlocal replayed
        logits = replay(*step)
        replayed += logits is not None
        return logits

    engine.runner.replay = counted
    texts(engine, PROMPTS)
    assert replayed >= COUNT - 2


def test_what_cannot_be_captured_leaves_the_thread_as_it_was() -> None:
    """`item` waits for the device, which a capture forbids."""
    device = torch.device("cuda", torch.cuda.current_device())
    numbers = torch.ones(4, device=device)

    def waits() -> None:
        numbers.add_(numbers.sum().item())

    def doubles() -> None:
        numbers.mul_(2)

    with pytest.raises(RuntimeError):
        CudaCapture(device)(waits)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    graph = CudaCapture(device)(doubles)
    numbers.fill_(1)
    graph.replay()
    assert numbers.tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float16", "float8"])
def test_keys_and_values_in_another_dtype(kv_dtype: str, byte_tokenizer: Tokenizer) -> None:
    """The first token follows from logits that are about as they are without it."""
    folder = str(saved("llama"))
    engine = core(folder, byte_tokenizer, "cuda", kv_dtype=kv_dtype)
    assert engine.runner.layout.dtype.itemsize == (1 if kv_dtype == "float8" else 2)
    got = texts(engine, PROMPTS)
    expected = texts(core(folder, byte_tokenizer, "cpu"), PROMPTS)
    same = sum(ours[0] == theirs[0] for ours, theirs in zip(got, expected, strict=True))
    assert same >= len(PROMPTS) // 2


def test_the_pool_fills_the_device(byte_tokenizer: Tokenizer) -> None:
    """Large blocks, so that few fill it; and no audit, which looks at all of them in each step."""
    settings = {"num_blocks": None, "block_size": 512}
    engine = core(str(saved("llama")), byte_tokenizer, "cuda", **settings)
    free, total = torch.cuda.mem_get_info()
    assert 0.05 * total < free < 0.25 * total
    assert drain(engine, [submit(engine, engine.open(PROMPTS[0]), 1)]) != [[]]


def test_bfloat16_is_what_a_gpu_computes_in(byte_tokenizer: Tokenizer) -> None:
    model = load_model(str(saved("llama")), dtype=None, cache=EngineConfig().models, device="cuda")[
        0
    ]
    assert (model.shape.dtype, model.shape.device.type) == (torch.bfloat16, "cuda")
    config = EngineConfig(device="cuda", num_blocks=1024)
    assert len(texts(EngineCore(model, byte_tokenizer, config), PROMPTS)) == len(PROMPTS)

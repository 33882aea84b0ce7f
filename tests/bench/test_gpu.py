"""What bench/gpu.py measures, at sizes that a CPU can do; the kernels are interpreted there."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from ramet.runtime.models.linear import FloatLinear
from tests.kernels.gpu.interpreter import mend

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
gpu: Any = import_module("gpu")
attention: Any = import_module("gpu_attention")
engine: Any = import_module("gpu_engine")

mend()

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HEADS = attention.Heads(queries=2, keys=1, dim=16, block=16, dtype=torch.float32)
NUMBERS = engine.LLAMA_8B | {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


@pytest.fixture(scope="module")
def side() -> Any:
    """In float32 on a CPU, where transformers gives the same tokens."""
    cpu = torch.device("cpu")
    return engine.both(NUMBERS, torch.float32, cpu, FloatLinear, num_blocks=200)


def test_sharing_changes_nothing_but_the_time() -> None:
    world = attention.decoding(HEADS, 6, 32, DEVICE, shared=128)
    torch.testing.assert_close(
        attention.ours(world)(), attention.ours(world, shares=False)(), rtol=1e-4, atol=1e-4
    )


def test_what_is_shared_is_read_once() -> None:
    world = attention.decoding(HEADS, 6, 32, DEVICE, shared=128)
    assert world.bytes() == ((128 + 6 * 32) * 2 * 16 + 2 * 6 * 2 * 16) * 4
    apart = attention.decoding(HEADS, 6, 32, DEVICE)
    assert apart.bytes() == (6 * 32 * 2 * 16 + 2 * 6 * 2 * 16) * 4


def test_pages_are_the_blocks_of_the_cache() -> None:
    world = attention.decoding(HEADS, 2, 32, DEVICE)
    pages = attention.paged(world)
    assert pages.shape == (4, 2, 1, 16, 16)
    data = world.cache.data[0]
    assert torch.equal(pages[3, 1, 0, 5], data[1, 0, 3 * 16 + 5])
    assert torch.equal(pages[0, 0, 0, 15], data[0, 0, 15])


def test_both_sides_are_the_same_model(side: Any) -> None:
    prompt = side.words(20)
    ids = side.ids([prompt])
    out = side.hf.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
    )
    fields = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True}
    (done,) = side.engine.generate(prompt, **fields)
    assert done["text"].split() == [f"w{each}" for each in out[0, 20:].tolist()]


def test_a_step_reads_all_weights_and_all_keys_and_values(side: Any) -> None:
    shape = side.engine.core.model.shape
    weights = sum(each.numel() for name, each in side.hf.named_parameters() if "embed" not in name)
    cached = 3 * 10 * 2 * 2 * 2 * 8
    assert engine.step_bytes(shape, NUMBERS, 3 * 10) == (weights + cached) * 4


def test_a_step_takes_some_time(side: Any) -> None:
    taken, context = engine.decode_steps(side, 3, 8, 8)
    assert 0 < taken < 1
    assert 3 * (8 + 1) < context < 3 * (8 + 8)
    side.engine.core.audit()
    assert side.engine.stats().sequences == 0


@pytest.mark.parametrize(
    ("workload", "sizes"),
    [
        ("beams", {"prompts": 2, "prompt": 12, "width": 3, "tokens": 4}),
        ("few_shot", {"ways": 4, "shared": 20, "own": 4, "tokens": 4}),
        ("select", {"context": 20, "questions": 2, "options": 2, "measured": 3}),
    ],
)
def test_workloads_run_on_both_sides(side: Any, workload: str, sizes: dict[str, int]) -> None:
    mine, theirs = getattr(engine, workload)(side, **sizes)
    mine()
    theirs()
    side.engine.core.audit()


def test_without_a_device_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--json", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit, match="no CUDA device: nothing is measured"):
        gpu.main()
    assert not list(tmp_path.iterdir())


def test_a_failed_measurement_has_its_error() -> None:
    row = {"workload": "forest", "failed": "RuntimeError: out of memory"}
    assert "failed" in gpu.line(row)
    assert "out of memory" in gpu.line(row)

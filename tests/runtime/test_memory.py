"""How many blocks a GPU has room for: the arithmetic, and the step that is measured."""

from dataclasses import replace

import pytest
import torch

from ramet.runtime import EngineConfig, memory
from ramet.runtime.errors import EngineError
from ramet.runtime.memory import MOST_BLOCKS, blocks_for, blocks_that_fit, full_step, step_bytes
from ramet.runtime.runner import Runner, layout_of
from tests.runtime.conftest import ToyModel, toy_logits

GIB = 1 << 30


def test_blocks_fill_what_weights_and_a_step_leave_of_the_share() -> None:
    # 90 of 100 GiB, 16 of them taken, 2 for a step: 72 GiB in blocks of 2 MiB.
    assert blocks_that_fit(84 * GIB, 100 * GIB, 2 * GIB, 2 << 20) == 72 * 512
    assert blocks_that_fit(84 * GIB, 100 * GIB, 2 * GIB + 1, 2 << 20) == 72 * 512 - 1


def test_what_others_took_is_not_there() -> None:
    assert blocks_that_fit(44 * GIB, 100 * GIB, 2 * GIB, 2 << 20) == 32 * 512


def test_the_host_has_to_keep_them_all() -> None:
    """A tiny model on a large device."""
    assert blocks_that_fit(84 * GIB, 100 * GIB, 2 * GIB, 9216) == MOST_BLOCKS


def test_no_room_says_what_took_it() -> None:
    with pytest.raises(EngineError, match=r"of 24\.0 GiB on the device, 21\.0 GiB are taken.*1\.0"):
        blocks_that_fit(3 * GIB, 24 * GIB, GIB, 1 << 30)


@pytest.mark.parametrize(("tokens", "context"), [(1, 8), (7, 8), (8, 8), (20, 8), (24, 8)])
def test_the_full_step_is_one_that_runs(tokens: int, context: int) -> None:
    inputs, step = full_step(tokens, context, block_size=3)
    runner = Runner(ToyModel(context), int((step.block_tables >= 0).sum()), 3)
    logits = runner.forward(inputs, step)
    known = [(0, place % context) for place in range(tokens)]
    firsts = [place - place % context for place in range(tokens)]
    expected = [toy_logits(known[first : place + 1]) for place, first in enumerate(firsts)]
    assert torch.equal(logits, torch.stack(expected))


class Gpu:
    """Numbers in place of a device's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        for name, answer in {
            "memory_allocated": 1_000,
            "reset_peak_memory_stats": None,
            "max_memory_allocated": 51_000,
            "empty_cache": None,
            "mem_get_info": (800_000, 1_000_000),
            "get_device_capability": (9, 0),
        }.items():
            monkeypatch.setattr(torch.cuda, name, self._answer(name, answer))

    def _answer(self, name: str, answer: object) -> object:
        def asked(*device: object) -> object:
            self.asked.append(name)
            return answer

        return asked


def test_a_step_takes_what_was_allocated_at_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch)
    model = ToyModel(64)
    assert step_bytes(model, EngineConfig(step_tokens=100), torch.float32) == 50_000
    assert (model.forwards, model.tokens_run) == (1, 100)
    assert gpu.asked == ["memory_allocated", "reset_peak_memory_stats", "max_memory_allocated"]


def test_a_gpu_is_measured_and_a_number_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch)
    model = ToyModel(64)
    model.shape = shape = replace(model.shape, device=torch.device("cuda", 0))
    monkeypatch.setattr(memory, "step_bytes", lambda *about: 50_000)
    config = EngineConfig(device="cuda", block_size=4)
    assert layout_of(shape, 0, 4).block_bytes == 32
    assert blocks_for(model, config) == (900_000 - 200_000 - 50_000) // 32
    assert gpu.asked == ["get_device_capability", "empty_cache", "mem_get_info"]
    half = EngineConfig(device="cuda", block_size=4, kv_dtype="float16")
    assert blocks_for(model, half) == (900_000 - 200_000 - 50_000) // 16
    assert blocks_for(model, EngineConfig(device="cuda", num_blocks=7)) == 7

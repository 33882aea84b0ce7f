"""What goes to a device goes there in one piece, and comes apart again."""

from typing import Any

import numpy as np
import pytest
import torch

from ramet.runtime.inputs import Inputs, indices, staged

INPUTS = Inputs(np.array([7, 8, 9]), np.array([0, 1, 5]), np.array([2]))


def test_each_is_what_it_was() -> None:
    parts = INPUTS.on(torch.device("cpu"))
    assert [part.tolist() for part in parts] == [[7, 8, 9], [0, 1, 5], [2]]
    assert all(part.dtype == torch.int64 for part in parts)


def test_no_row_may_be_wanted() -> None:
    none = Inputs(np.array([7]), np.array([0]), np.array([], dtype=np.int64))
    assert none.on(torch.device("cpu"))[2].shape == (0,)


def test_only_for_a_gpu_memory_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[bool] = []

    def empty(*shape: int, pin_memory: bool, **how: Any) -> torch.Tensor:
        locked.append(pin_memory)
        return torch.zeros(*shape, **how)

    monkeypatch.setattr(torch, "empty", empty)
    for device in ("cpu", "cuda"):
        held = staged([INPUTS.tokens, [4, 5]], torch.device(device))
        assert (held.tolist(), held.dtype) == ([7, 8, 9, 4, 5], torch.int64)
    assert locked == [False, True]


def test_indices_are_numbers_of_the_device() -> None:
    assert torch.equal(indices([3, 1], torch.device("cpu")), torch.tensor([3, 1]))


@pytest.mark.gpu
def test_copies_from_memory_that_is_used_again_are_right() -> None:
    gpu = torch.device("cuda")
    many = [Inputs(*(np.full(5000, at),) * 3).on(gpu) for at in range(200)]
    assert all(int(part.sum()) == 5000 * at for at, parts in enumerate(many) for part in parts)

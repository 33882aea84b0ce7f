"""What goes to a device goes there in one piece, and comes apart again."""

import numpy as np
import pytest
import torch

from ramet.runtime.inputs import Inputs, staged

INPUTS = Inputs(np.array([7, 8, 9]), np.array([0, 1, 5]), np.array([2]))


def test_each_is_what_it_was() -> None:
    parts = INPUTS.on(torch.device("cpu"))
    assert [part.tolist() for part in parts] == [[7, 8, 9], [0, 1, 5], [2]]
    assert all(part.dtype == torch.int64 for part in parts)


def test_no_row_may_be_wanted() -> None:
    none = Inputs(np.array([7]), np.array([0]), np.array([], dtype=np.int64))
    assert none.on(torch.device("cpu"))[2].shape == (0,)


def test_only_for_a_gpu_memory_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[int] = []

    def lock(tensor: torch.Tensor) -> torch.Tensor:
        locked.append(len(tensor))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", lock)
    staged(INPUTS.tokens, torch.device("cpu"))
    assert locked == []
    # Where no numbers are, none are copied; the shapes are those of a GPU.
    parts = INPUTS.on(torch.device("meta"))
    assert [part.shape for part in parts] == [(3,), (3,), (1,)]
    assert locked == [7]


@pytest.mark.gpu
def test_copies_from_memory_that_is_used_again_are_right() -> None:
    gpu = torch.device("cuda")
    many = [Inputs(*(np.full(5000, at),) * 3).on(gpu) for at in range(200)]
    assert all(int(part.sum()) == 5000 * at for at, parts in enumerate(many) for part in parts)

"""The argmax on a device is numpy's."""

import math
import random

import pytest
import torch

from ramet.kernels.gpu.argmax import argmax


@pytest.mark.parametrize("size", [1, 7, 64, 65, 1000, 4097, 49_152])
def test_places_are_those_of_numpy(size: int, device: torch.device) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    torch.manual_seed(seed)
    x = torch.randn(6, size).round(decimals=1)  # many ties
    x[1, rng.randrange(size)] = math.nan
    x[2] = -math.inf
    x[3, rng.randrange(size)] = math.inf
    x[4] = -x[4].abs() - 1
    x[5] = 0.0
    x[5, 0] = -0.0
    peaks, places = argmax(x.to(device))
    expected = torch.from_numpy(x.numpy().argmax(-1))
    assert places.tolist() == expected.tolist(), f"seed {seed}"
    found = x.gather(1, expected[:, None]).squeeze(1)
    torch.testing.assert_close(peaks.cpu(), found, rtol=0, atol=0, equal_nan=True)


def test_nan_wins_over_infinity_and_the_first_nan_over_others(device: torch.device) -> None:
    x = torch.tensor([[1.0, math.inf, math.nan, -math.nan, math.nan]], device=device)
    x[0, 3] = -x[0, 2]  # with its sign bit set
    assert argmax(x)[1].tolist() == [2]
    assert argmax(x[:, 3:4])[0].isnan().all()


def test_rows_of_a_wider_matrix_and_none(device: torch.device) -> None:
    x = torch.tensor([[9.0, 1.0, 2.0], [9.0, 3.0, 2.0]], device=device)
    assert argmax(x[:, 1:])[1].tolist() == [1, 0]
    assert argmax(x[:0])[1].shape == (0,)

"""The race on a device draws what it draws on a CPU, and from the distribution it is told."""

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from ramet.kernels.gpu.argmax import argmax
from ramet.kernels.gpu.race import race
from ramet.runtime.sampling.sampler import _race
from tests.kernels.gpu.test_noise import Place, packed, random_place


def drawn(logits: Tensor, places: list[Place], device: torch.device) -> list[int]:
    there = logits.to(device)
    peaks, tokens = argmax(there)
    race(there, peaks, packed(places, device), torch.ones_like(peaks), tokens)
    return tokens.tolist()


@pytest.mark.parametrize("size", [1, 7, 64, 65, 1000, 4097, 49_152])
def test_tokens_are_those_of_the_cpu(size: int, device: torch.device) -> None:
    """Sums are rounded in another order: one token in a million may differ."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    torch.manual_seed(seed)
    rows = 12
    logits = torch.randn(rows, size) * torch.tensor([[0.3], [1.0], [4.0]]).repeat(rows // 3, 1)
    logits[torch.rand(rows, size) < 0.3] = -math.inf
    logits[:, rng.randrange(size)] = 1.0
    places = [random_place(rng) for _ in range(rows)]
    found = drawn(logits, places, device)
    expected = _race(logits.softmax(-1), places)
    assert sum(a != b for a, b in zip(found, expected, strict=True)) <= 1, f"seed {seed}"


@pytest.mark.parametrize("rows", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_draws_have_the_distribution_of_the_softmax(rows: int, device: torch.device) -> None:
    """Few are likely enough to count, in four groups."""
    logits = torch.randn(200, generator=torch.Generator().manual_seed(5)) * 3
    found = drawn(logits.expand(rows, -1), [(91, i, 0) for i in range(rows)], device)
    expected = logits.double().softmax(-1).numpy() * rows
    counts = np.bincount(found, minlength=200)
    often = expected >= 5
    cells = np.append(expected[often], expected[~often].sum())
    seen = np.append(counts[often], counts[~often].sum())
    degrees = len(cells) - 1
    statistic = ((seen - cells) ** 2 / cells).sum()
    assert abs(statistic - degrees) < 4 * math.sqrt(2 * degrees)


def test_greedy_rows_and_rows_without_a_token_keep_theirs(device: torch.device) -> None:
    logits = torch.zeros(4, 70, device=device)
    logits[2] = -math.inf
    logits[3, 5] = math.nan
    peaks, _ = argmax(logits)
    tokens = torch.full((4,), 99, dtype=torch.int32, device=device)
    temperatures = torch.tensor([0.0, 1.0, 1.0, 1.0], device=device)
    race(logits, peaks, packed([(3, 4, 0)] * 4, device), temperatures, tokens)
    assert [token == 99 for token in tokens.tolist()] == [True, False, True, True]


def test_tokens_ruled_out_are_never_drawn(device: torch.device) -> None:
    logits = torch.full((20, 130), -math.inf)
    logits[:, 64] = logits[:, 129] = -300.0  # exp of either alone is 0 in float32
    found = drawn(logits, [(2, i, 0) for i in range(20)], device)
    assert set(found) == {64, 129}

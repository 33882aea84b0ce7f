"""Penalties and masks on a device against the same in plain torch, where exact to the bit."""

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from ramet.kernels.gpu.penalties import NONE, penalise, rule_out

INF = math.inf
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow):RuntimeWarning")


def ints(values: object, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=device)


@pytest.mark.parametrize("size", [1, 7, 65, 3000])
def test_stages_apply_one_after_the_other(size: int, device: torch.device) -> None:
    """Lists longer than a program's block, empty ones, and tokens that are in several."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    torch.manual_seed(seed)
    rows = 3
    logits = torch.randn(rows, size)
    logits[torch.rand(rows, size) < 0.1] = -INF
    expected, bounds, ids, values = logits.clone(), [], [], []
    for row in range(rows):
        bounds.append([len(ids)])
        for stage in range(4):
            listed = rng.sample(range(size), rng.choice((0, 1, size // 2, size)))
            given = torch.rand(len(listed)) * 3 + 0.1
            if stage == 3:
                given[:] = -INF
            x = expected[row, listed]
            kept = torch.where(x < 0, x * given, x / given) if stage == 1 else x + given
            expected[row, listed] = kept
            ids += listed
            values += given.tolist()
            bounds[-1].append(len(ids))
    found = logits.to(device, copy=True)
    given = torch.tensor(values, device=device)
    penalise(found, ints(bounds, device), ints(ids, device), given)
    assert torch.equal(found.cpu(), expected), f"seed {seed}"


def test_no_entries_change_nothing(device: torch.device) -> None:
    logits = torch.randn(2, 9, device=device)
    before = logits.clone()
    none = torch.empty(0, device=device)
    penalise(logits, ints([[0] * 5] * 2, device), ints([], device), none)
    assert torch.equal(logits, before)


def expected_row(x: Tensor, own: Tensor, grammar: Tensor, end: int, temperature: float) -> Tensor:
    """The formula in float64, for one row."""
    x = x.double().masked_fill(~own, -INF)
    left = x.masked_fill(~grammar, -INF)
    divisor = temperature or 1.0
    if end != NONE and left[end] > -INF:
        if temperature == 0:
            if x.max() > left.max():
                left[end] = x.max()
        else:
            outside = torch.cat([x[~grammar], x[end : end + 1]])
            left[end] = (outside / divisor).logsumexp(0) * divisor
    return left / divisor


@pytest.mark.parametrize("size", [1, 7, 64, 65, 1000, 4097])
def test_masks_ends_and_temperatures(size: int, device: torch.device) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    torch.manual_seed(seed)
    rows = 8
    logits = torch.randn(rows, size) * 3
    logits[torch.rand(rows, size) < 0.1] = -INF
    masks = torch.rand(5, size) < torch.tensor([[0.02], [0.5], [0.9], [1.0], [0.0]])
    which = [[rng.choice((NONE, *range(5))) for _ in range(2)] for _ in range(rows)]
    ends = [rng.choice((NONE, rng.randrange(size))) for _ in range(rows)]
    temperatures = [rng.choice((0.0, 0.3, 1.0, 2.5)) for _ in range(rows)]
    every = torch.cat([masks, torch.ones(1, size, dtype=torch.bool)])  # -1 is the last
    expected = torch.stack([
        expected_row(logits[i], every[which[i][0]], every[which[i][1]], ends[i], temperatures[i])
        for i in range(rows)
    ])  # fmt: skip
    packed = torch.from_numpy(np.packbits(masks.numpy(), axis=1, bitorder="little"))
    found = logits.to(device, copy=True)
    given = torch.tensor(temperatures, device=device)
    rule_out(found, packed.to(device), ints(which, device), ints(ends, device), given)
    plain = torch.ones(rows, size, dtype=torch.bool)
    for i, end in enumerate(ends):
        if end != NONE:
            plain[i, end] = False
    exact = expected.float()
    exact[plain] = (logits / torch.tensor([t or 1.0 for t in temperatures])[:, None])[plain]
    exact[expected == -INF] = -INF
    assert torch.equal(found.cpu()[plain], exact[plain]), f"seed {seed}"
    torch.testing.assert_close(found.cpu(), exact, rtol=1e-6, atol=1e-5, msg=f"seed {seed}")


def test_a_text_that_would_rather_leave_its_grammar_ends(device: torch.device) -> None:
    """The greedy row ends for one better token outside; the other one gets the mass of all."""
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0], [1.0, 3.0, 2.0, 0.0]], device=device)
    mask = torch.tensor([[0b1101]], dtype=torch.uint8, device=device)
    temperatures = torch.tensor([0.0, 1.0], device=device)
    rule_out(logits, mask, ints([[NONE, 0]] * 2, device), ints([3, 3], device), temperatures)
    mass = math.log(math.exp(3) + math.exp(0))
    expected = torch.tensor([[1.0, -INF, 2.0, 3.0], [1.0, -INF, 2.0, mass]], device=device)
    torch.testing.assert_close(logits, expected)

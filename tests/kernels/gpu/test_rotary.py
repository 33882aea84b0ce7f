"""Norms, rotation and the write in one launch, against the formula in torch."""

import random

import pytest
import torch

from ramet.kernels.gpu.rotary import rotate_and_write
from ramet.kernels.rotary import HeadNorms, Rotary, apart

# Products in float32 may be fused; a result then rounds to the next number of its dtype.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2**-6}
SLOTS = 40


@pytest.mark.parametrize(("dtype", "cache"), [
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float8_e4m3fn),
    (torch.bfloat16, torch.float8_e4m3fn),
])  # fmt: skip
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(1, 1, 2), (9, 3, 64), (4, 2, 80)])
@pytest.mark.parametrize("normed", [False, True])
def test_queries_keys_and_values_are_those_of_the_formula(
    heads: int,
    kv_heads: int,
    dim: int,
    normed: bool,
    dtype: torch.dtype,
    cache: torch.dtype,
    device: torch.device,
) -> None:
    seed = random.randrange(2**32)
    torch.manual_seed(seed)
    tokens = random.Random(seed).randrange(1, 6)
    joined = torch.randn(tokens, (heads + 2 * kv_heads) * dim, device=device).to(dtype)
    angles = torch.rand(tokens, dim // 2, device=device) * 6
    rotary = Rotary(angles.cos(), angles.sin())
    weights = torch.randn(2, dim, device=device).to(dtype)
    norms = HeadNorms(weights[0], weights[1], 1e-6) if normed else None
    slots = torch.randperm(SLOTS, device=device)[:tokens]
    slots[torch.rand(tokens, device=device) < 0.3] = -1
    data = torch.full((2, kv_heads, SLOTS + 1, dim), 7.0, device=device).to(cache)

    query = rotate_and_write(joined, data, slots, rotary, norms)
    expected, *written = apart(joined, kv_heads, dim, rotary, norms)
    close = {"rtol": TOLERANCE[dtype], "atol": 1e-5, "msg": lambda m: f"seed {seed}: {m}"}
    torch.testing.assert_close(query, expected, **close)
    untouched = torch.ones(SLOTS + 1, dtype=torch.bool, device=device)
    untouched[slots[slots >= 0]] = False
    assert (data.float()[:, :, untouched] == 7).all(), f"seed {seed}"
    if cache == torch.float8_e4m3fn:
        close |= {"rtol": 2**-3, "atol": 2**-9}
    elif cache != dtype:
        close["rtol"] = 2**-7
    for part, each in enumerate(written):
        kept = data[part][:, slots[slots >= 0]].transpose(0, 1).float()
        torch.testing.assert_close(kept, each[slots >= 0].float(), **close)


def test_what_float8_cannot_hold_becomes_its_largest(device: torch.device) -> None:
    joined = torch.full((1, 6), 1000.0, device=device)
    joined[0, 5] = -1000.0
    data = torch.zeros(2, 1, 3, 2, device=device).to(torch.float8_e4m3fn)
    straight = Rotary(torch.ones(1, 1, device=device), torch.zeros(1, 1, device=device))
    rotate_and_write(joined, data, torch.tensor([1], device=device), straight)
    assert data.float()[:, 0, 1].tolist() == [[448.0, 448.0], [448.0, -448.0]]


def test_a_query_alone_and_rows_of_a_wider_matrix(device: torch.device) -> None:
    joined = torch.randn(3, 40, device=device)[:, 2:18]
    rotary = Rotary(torch.rand(3, 2, device=device), torch.rand(3, 2, device=device))
    data = torch.zeros(2, 1, 4, 4, device=device)
    slots = torch.tensor([-1, 2, -1], dtype=torch.int32, device=device)
    query = rotate_and_write(joined, data, slots, rotary)
    torch.testing.assert_close(query, apart(joined, 1, 4, rotary, None)[0])
    assert query.shape == (3, 2, 4)
    assert data[:, :, [0, 1, 3]].count_nonzero() == 0
    assert data[:, :, 2].count_nonzero() == 8

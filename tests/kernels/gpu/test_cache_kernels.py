"""Writing through the slot mapping, block copies, merging of partial results, metadata sheets."""

import math
import random

import numpy as np
import pytest
import torch

from ramet.kernels import KVCache, KVLayout
from ramet.kernels.gpu.backend import GpuBackend
from ramet.kernels.gpu.merge import merge
from ramet.kernels.gpu.sheet import Sheet
from ramet.kernels.gpu.write import write
from tests.kernels.gpu.worlds import FLOAT8, fresh_seed

DTYPES = (torch.float32, torch.bfloat16, torch.float16, FLOAT8)


def int32(numbers: list[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int32, device=device)


# -- writing


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kv_heads", "dim"), [(1, 16), (3, 24), (2, 80), (1, 1)])
def test_write(kv_heads: int, dim: int, dtype: torch.dtype, device: torch.device) -> None:
    """Rows of a joined product; a slot of −1 is not written, and nothing else changes."""
    made = torch.bfloat16 if dtype == FLOAT8 else dtype
    draw = torch.Generator().manual_seed(seed := fresh_seed())
    joined = torch.randn(4, 5 * kv_heads, dim, generator=draw).to(made).to(device)
    key, value = joined[:, :kv_heads], joined[:, 2 * kv_heads : 3 * kv_heads]
    data = torch.randn(2, kv_heads, 12, dim, generator=draw).to(dtype).to(device)
    expected = data.float()
    slots = [7, -1, 0, 10]
    for row, slot in enumerate(slots):
        if slot >= 0:
            expected[0, :, slot] = key[row].to(dtype).float()
            expected[1, :, slot] = value[row].to(dtype).float()
    write(data, int32([*slots, -1, -1], device), key, value)
    assert torch.equal(data.float(), expected), seed


def test_write_nothing(device: torch.device) -> None:
    data = torch.zeros(2, 1, 3, 4, device=device)
    nothing = torch.zeros(0, 1, 4, device=device)
    write(data, int32([], device), nothing, nothing)
    assert not data.any()


# -- copies


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("block", "dim"), [(1, 16), (5, 24), (16, 80)])
def test_copies(block: int, dim: int, dtype: torch.dtype, device: torch.device) -> None:
    """Bit by bit, NaN and all, and no token more."""
    layout = KVLayout(2, 3, dim, num_blocks=9, block_size=block, dtype=dtype, device=device)
    cache = KVCache(layout)
    draw = torch.Generator().manual_seed(seed := fresh_seed())
    bits = torch.randint(0, 256, (cache.data.nbytes,), generator=draw, dtype=torch.uint8)
    cache.data.view(torch.uint8).view(-1).copy_(bits.to(device))
    expected = cache.data.view(torch.uint8).cpu().clone()
    copies = [(0, 5, block), (0, 7, 1), (3, 6, max(1, block - 1)), (8, 2, 0)]
    for source, target, tokens in copies:
        for at in range(tokens):
            expected[:, :, :, target * block + at] = expected[:, :, :, source * block + at]
    backend = GpuBackend(cache)
    backend.copy_blocks([])
    backend.copy_blocks(copies)
    assert torch.equal(cache.data.view(torch.uint8).cpu(), expected), seed


# -- merging


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dim", [16, 24, 80])
def test_merge(dim: int, dtype: torch.dtype, device: torch.device) -> None:
    """As one softmax over all keys gives it; rows that are not merged stay as they were."""
    seed = fresh_seed()
    rng, draw = random.Random(seed), torch.Generator().manual_seed(seed)
    heads, parts = 3, [2, 20, 16]
    starts = [0, *np.cumsum(parts).tolist()]
    sums = torch.randn(starts[-1], heads, generator=draw) * 20
    partial = torch.randn(starts[-1], heads, dim, generator=draw)
    empty = rng.randrange(2)  # a run in which the row saw nothing
    sums[empty], partial[empty] = -math.inf, 0.0
    out = torch.full((6, heads, dim), 9.0, dtype=dtype, device=device)
    rows = [4, 0, 3]
    merge(
        out,
        partial.to(device),
        sums.to(device),
        int32([3], device),
        int32([*rows, 77, 99], device),  # beyond the count: not looked at
        int32([*starts, -1, -1], device),
    )
    for row, first, last in zip(rows, starts, starts[1:], strict=False):
        weights = torch.softmax(sums[first:last].double() * math.log(2), 0)
        expected = (weights[:, :, None] * partial[first:last]).sum(0)
        # float32 sums of up to 20 parts, then one rounding to the result's dtype
        room = 4e-6 + torch.finfo(dtype).eps / 2 * float(expected.abs().max())
        assert (out[row].cpu().double() - expected).abs().max() <= room, seed
    assert (out[[1, 2, 5]] == 9.0).all(), seed


# -- sheets


def test_a_sheet(device: torch.device) -> None:
    sheet = Sheet([(3,), (0,), (9, 6)], device)
    sheet.fill([np.array([1, 2]), np.array([], np.int64), np.arange(40).reshape(8, 5)])
    assert sheet.part(0)[:2].tolist() == [1, 2]
    assert sheet.part(1).tolist() == []
    assert sheet.part(2)[7, :5].tolist() == [35, 36, 37, 38, 39]
    assert (sheet.part(0).shape, sheet.part(2).shape) == ((3,), (9, 6))
    assert sheet.part(2).data_ptr() % 64 == sheet.part(0).data_ptr() % 64
    kept = np.array([5]), np.array([], np.int64), np.ones((9, 6), np.int64)
    for index, large in ((0, np.arange(4)), (1, np.arange(1)), (2, np.zeros((1, 7), np.int64))):
        arrays = [*kept[:index], large, *kept[index + 1 :]]
        with pytest.raises(ValueError, match=f"array {index} has room for"):
            sheet.fill(arrays)
    assert sheet.part(0)[:2].tolist() == [1, 2]

"""The first largest entry of each row."""

import torch
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel
from ramet.kernels.gpu.ordered import ordered

_BLOCK = 4096
_NOWHERE = tl.constexpr(0x7FFFFFFF)


def argmax(x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest entries [R] float32 of x [R, V] float32, and where they first are [R] int32.

    A NaN counts as the largest, as in numpy; the entry tells it. One program takes one row, so a
    row's result depends on no other.
    """
    rows, size = x.shape
    assert x.dtype == torch.float32 and x.stride(1) == 1, "float32, and its rows contiguous"
    peaks = torch.empty(rows, dtype=torch.float32, device=x.device)
    places = torch.empty(rows, dtype=torch.int32, device=x.device)
    if rows:
        _argmax[(rows,)](x, peaks, places, x.stride(0), SIZE=size, BLOCK=_BLOCK, num_warps=8)
    return peaks, places


@kernel
def _argmax(
    x: tl.tensor,
    peaks: tl.tensor,
    places: tl.tensor,
    stride: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    best = tl.zeros([BLOCK], tl.uint32)
    place = tl.full([BLOCK], _NOWHERE, tl.int32)
    for start in range(0, SIZE, BLOCK):
        at = start + lanes
        keys = ordered(tl.load(x + row * stride + at, mask=at < SIZE, other=-float("inf")))
        found = (keys > best) & (at < SIZE)
        best = tl.where(found, keys, best)
        place = tl.where(found, at, place)
    first = tl.min(tl.where(best == tl.max(best), place, _NOWHERE))
    tl.store(peaks + row, tl.load(x + row * stride + first))
    tl.store(places + row, first)

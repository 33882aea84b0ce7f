"""top-k, top-p and min-p without sorting: the least value that stays is found bit by bit."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel
from ramet.kernels.gpu.ordered import ordered

_BLOCK = 4096


def keep(logits: Tensor, peaks: Tensor, top_k: Tensor, top_p: Tensor, below: Tensor) -> None:
    """Rules out the unlikely of logits [R, V] float32, in place; each step sees what the one
    before it left.

    top-k keeps the k largest; top-p the likeliest until they sum to p, the one that crosses it
    included (arXiv 1904.09751); min-p what is not `below` the largest by more than log(min_p)
    (arXiv 2407.01082). What ties with the last one kept is kept. The threshold is the largest t
    for which the entries >= t number k or sum to p: two bits of t are found in each pass over the
    row, from the highest, as in radix select. Sums are of float32, in an order that depends on V
    alone.

    Args:
        peaks: [R] float32, the largest of each row; one where it is not finite is left alone.
        top_k: [R] int32; 0 keeps all.
        top_p: [R] float32; 1 keeps all.
        below: [R] float32, log(min_p); -inf keeps all.
    """
    rows, size = logits.shape
    assert logits.dtype == torch.float32 and logits.stride(1) == 1, "float32, its rows contiguous"
    assert top_k.shape == (rows,) and top_k.dtype == torch.int32, "top_k is [R] int32"
    for each in (peaks, top_p, below):
        assert each.shape == (rows,) and each.dtype == torch.float32, "one float32 of each row"
    if rows:
        _keep[(rows,)](
            logits,
            peaks,
            top_k,
            top_p,
            below,
            logits.stride(0),
            SIZE=size,
            BLOCK=min(_BLOCK, triton.next_power_of_2(size)),
            num_warps=8,
        )


@kernel
def _load(line: tl.tensor, start: tl.tensor, SIZE: tl.constexpr, BLOCK: tl.constexpr) -> tl.tensor:
    at = start + tl.arange(0, BLOCK)
    return tl.load(line + at, mask=at < SIZE, other=-float("inf"))


@kernel
def _likely(x: tl.tensor, least: tl.tensor, peak: tl.tensor, total: tl.tensor) -> tl.tensor:
    """The softmax of logits over those whose keys reach the least."""
    return tl.where(ordered(x) >= least, tl.div_rn(tl.exp(x - peak), total), 0.0)


@kernel
def _reaching(found: tl.tensor, unit: tl.tensor, keys: tl.tensor, weights: tl.tensor) -> tl.tensor:
    """The weights [BLOCK, 4] of the keys that reach each value of the next two bits."""
    tries = found + tl.arange(0, 4).to(tl.uint32) * unit
    return tl.where(keys[:, None] >= tries[None, :], weights[:, None], 0)


@kernel
def _next(found: tl.tensor, unit: tl.tensor, sums: tl.tensor, target: tl.tensor) -> tl.tensor:
    """The bits found, with the largest value of the next two that still has the target's weight."""
    reach = (sums >= target) & (tl.arange(0, 4) > 0)
    return found + tl.sum(reach.to(tl.uint32), 0) * unit


@kernel
def _keep(
    logits: tl.tensor,
    peaks: tl.tensor,
    top_k: tl.tensor,
    top_p: tl.tensor,
    below: tl.tensor,
    stride: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    line = logits + row * stride
    peak, k, p = tl.load(peaks + row), tl.load(top_k + row), tl.load(top_p + row)
    if not (tl.abs(peak) < float("inf")):
        return
    floor = peak + tl.load(below + row)

    least = tl.zeros([], tl.uint32)  # key of a logit
    if k > 0 and k < SIZE:
        unit = tl.full([], 1 << 30, tl.uint32)
        for _ in range(16):
            counts = tl.zeros([BLOCK, 4], tl.int32)
            for start in range(0, SIZE, BLOCK):
                keys = ordered(_load(line, start, SIZE, BLOCK))
                keys = tl.where(start + tl.arange(0, BLOCK) < SIZE, keys, 0)
                counts += _reaching(least, unit, keys, tl.full([BLOCK], 1, tl.int32))
            least = _next(least, unit, tl.sum(counts, 0), k)
            unit = unit >> 2

    rare = tl.zeros([], tl.uint32)  # bits of a probability, which is not over 1: thirty matter
    total = 1.0
    if p < 1:
        sums = tl.zeros([BLOCK], tl.float32)
        for start in range(0, SIZE, BLOCK):
            sums += _likely(_load(line, start, SIZE, BLOCK), least, peak, 1.0)
        total = tl.sum(sums)
        unit = tl.full([], 1 << 28, tl.uint32)
        for _ in range(15):
            masses = tl.zeros([BLOCK, 4], tl.float32)
            for start in range(0, SIZE, BLOCK):
                likely = _likely(_load(line, start, SIZE, BLOCK), least, peak, total)
                masses += _reaching(rare, unit, likely.to(tl.uint32, bitcast=True), likely)
            rare = _next(rare, unit, tl.sum(masses, 0), p)
            unit = unit >> 2

    for start in range(0, SIZE, BLOCK):
        x = _load(line, start, SIZE, BLOCK)
        likely = _likely(x, least, peak, total).to(tl.uint32, bitcast=True)
        kept = (ordered(x) >= least) & (likely >= rare) & (x >= floor)
        at = start + tl.arange(0, BLOCK)
        tl.store(line + at, tl.where(kept, x, -float("inf")), mask=at < SIZE)

"""What rows of logits ask for token by token, and what they rule out: in place, one launch each."""

import torch
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel

_CELLS = 1024  # entries of a row at a time
_BLOCK = 4096
NONE = -1
"""Of a mask or an end: the row has none."""


def penalise(logits: Tensor, bounds: Tensor, ids: Tensor, values: Tensor) -> None:
    """Changes the logits [R, V] float32 of listed tokens, in four stages.

    A row adds (`logit_bias`), then penalises repetition (x * value where x < 0, else x / value;
    arXiv 1909.05858), then adds (the negative presence and frequency penalties), then adds again
    (-inf, where the text may not end). The operations are exact, so they give what a CPU gives.

    Args:
        bounds: [R, 5] int32: stage s of row r is entries `bounds[r, s]` up to `bounds[r, s + 1]`.
            Within a stage of a row a token is there at most once.
        ids: [N] int32, each in 0 … V - 1.
        values: [N] float32.
    """
    _check(logits)
    assert bounds.shape == (len(logits), 5) and bounds.dtype == torch.int32, "bounds [R, 5] int32"
    assert ids.shape == values.shape and ids.dtype == torch.int32, "ids [N] int32"
    assert values.dtype == torch.float32, "values [N] float32"
    if len(logits):
        _penalise[(len(logits),)](
            logits, bounds, ids, values, logits.stride(0), BLOCK=_CELLS, num_warps=4
        )


def rule_out(
    logits: Tensor, masks: Tensor, which: Tensor, ends: Tensor, temperatures: Tensor
) -> None:
    """Masks logits [R, V] float32 and divides them by temperatures; both in one pass.

    Where a text may end, a model that would rather leave its grammar ends it: the end's logit gets
    the mass of all tokens that the grammar rules out, T * log(sum of exp(x / T)) over them and
    itself. A greedy row's gets the largest of all logits, if the grammar rules that token out.

    Args:
        masks: [M, ceil(V / 8)] uint8, a bit for each token, the lowest first.
        which: [R, 2] int32: the row's own mask, and its grammar's. `NONE` allows all.
        ends: [R] int32: the token that ends the row's text if its grammar allows it, or `NONE`.
        temperatures: [R] float32; 0 for a greedy row, which is not divided.
    """
    _check(logits)
    rows, size = logits.shape
    assert masks.shape[1:] == (-(-size // 8),) and masks.dtype == torch.uint8, "masks [M, V / 8]"
    assert masks.is_contiguous(), "masks are contiguous"
    assert which.shape == (rows, 2) and which.dtype == torch.int32, "which is [R, 2] int32"
    assert ends.shape == (rows,) and ends.dtype == torch.int32, "ends are [R] int32"
    assert temperatures.shape == (rows,) and temperatures.dtype == torch.float32, "one of each row"
    if rows:
        _rule_out[(rows,)](
            logits,
            masks,
            which,
            ends,
            temperatures,
            logits.stride(0),
            SIZE=size,
            BLOCK=_BLOCK,
            num_warps=8,
        )


def _check(logits: Tensor) -> None:
    assert logits.dtype == torch.float32 and logits.stride(1) == 1, "float32, its rows contiguous"


@kernel
def _penalise(
    logits: tl.tensor,
    bounds: tl.tensor,
    ids: tl.tensor,
    values: tl.tensor,
    stride: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    line = logits + row * stride
    for stage in range(4):
        at = tl.load(bounds + row * 5 + stage)
        stop = tl.load(bounds + row * 5 + stage + 1)
        while at < stop:
            entries = at + tl.arange(0, BLOCK)
            there = entries < stop
            cells = line + tl.load(ids + entries, mask=there, other=0)
            value = tl.load(values + entries, mask=there, other=1.0)
            x = tl.load(cells, mask=there, other=0.0)
            if stage == 1:
                x = tl.where(x < 0, x * value, tl.div_rn(x, value))
            else:
                x += value
            tl.store(cells, x, mask=there)
            at += BLOCK
        tl.debug_barrier()


@kernel
def _allowed(masks: tl.tensor, mask: tl.tensor, at: tl.tensor, SIZE: tl.constexpr) -> tl.tensor:
    """Whether this mask of `masks` allows tokens `at`; none (-1) allows all."""
    line = masks + mask.to(tl.int64) * ((SIZE + 7) // 8)
    bits = tl.load(line + at // 8, mask=(at < SIZE) & (mask >= 0), other=255)
    return (bits.to(tl.int32) >> (at % 8)) & 1 == 1


@kernel
def _rule_out(
    logits: tl.tensor,
    masks: tl.tensor,
    which: tl.tensor,
    ends: tl.tensor,
    temperatures: tl.tensor,
    stride: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    line = logits + row * stride
    never = -float("inf")
    own, grammar = tl.load(which + row * 2), tl.load(which + row * 2 + 1)
    temperature = tl.load(temperatures + row)
    greedy = temperature == 0
    divisor = tl.where(greedy, 1.0, temperature)
    end = tl.load(ends + row)
    wish = tl.load(line + tl.maximum(end, 0))
    ending = (end >= 0) & (wish > never)
    ending = ending & _allowed(masks, own, tl.maximum(end, 0), SIZE)
    ending = ending & _allowed(masks, grammar, tl.maximum(end, 0), SIZE)
    tl.debug_barrier()  # all have read it before one writes

    inside = tl.full([BLOCK], never, tl.float32)
    outside = tl.full([BLOCK], never, tl.float32)
    mass = tl.zeros([BLOCK], tl.float32)  # of those outside, by lane, relative to `outside`
    for start in range(0, SIZE, BLOCK):
        at = start + tl.arange(0, BLOCK)
        there = at < SIZE
        x = tl.load(line + at, mask=there, other=never)
        x = tl.where(_allowed(masks, own, at, SIZE), tl.div_rn(x, divisor), never)
        allowed = _allowed(masks, grammar, at, SIZE)
        left = tl.where(allowed, x, never)
        tl.store(line + at, left, mask=there)
        if end >= 0:
            inside = tl.maximum(inside, left)
            out = tl.where(allowed, never, x)
            peak = tl.maximum(outside, out)
            shift = tl.where(peak == never, 0.0, peak)
            mass = mass * tl.exp(outside - shift) + tl.exp(out - shift)
            outside = peak

    tl.debug_barrier()
    if ending:
        wish = tl.div_rn(wish, divisor)
        peak = tl.max(outside)
        if greedy:
            wish = tl.where(peak > tl.max(inside), peak, wish)
        else:
            peak = tl.maximum(peak, wish)
            total = tl.sum(mass * tl.exp(outside - peak)) + tl.exp(wish - peak)
            wish = peak + tl.log(total)
        tl.store(line + end, wish)

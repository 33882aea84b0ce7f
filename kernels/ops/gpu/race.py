"""The draw: one token of each row by two exponential races, groups of tokens first."""

import torch
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel
from ramet.kernels.gpu.noise import exponentials

GROUP = 64  # as on a CPU: which noise a token races with follows from it
_GROUPS = 64  # groups of one pass
_NOWHERE = tl.constexpr(0x7FFFFFFF)


def race(
    logits: Tensor, peaks: Tensor, places: Tensor, temperatures: Tensor, tokens: Tensor
) -> None:
    """Draws a token from the softmax of each of logits [R, V] float32, into tokens [R] int32.

    Of clocks with rates w the first to ring is i with probability proportional to w_i: argmax of
    w / E, E exponential(1). Groups of 64 tokens race with their sums of exp(x - peak), then the
    tokens of the group that won, each with the noise of its place (`exponentials`: groups first).

    Args:
        peaks: [R] float32, the largest of each row; one where it is not finite keeps its token.
        places: [R, 4] int64, see `exponentials`.
        temperatures: [R] float32; a row with 0 is greedy and keeps the token it has.
    """
    rows, size = logits.shape
    assert logits.dtype == torch.float32 and logits.stride(1) == 1, "float32, its rows contiguous"
    assert len(places) == rows, "one place of each row"
    assert tokens.shape == (rows,) and tokens.dtype == torch.int32, "tokens are [R] int32"
    for each in (peaks, temperatures):
        assert each.shape == (rows,) and each.dtype == torch.float32, "one float32 of each row"
    if rows:
        count = -(-size // GROUP)
        clocks = exponentials(places, count + GROUP)
        _race[(rows,)](
            logits,
            peaks,
            clocks,
            temperatures,
            tokens,
            logits.stride(0),
            SIZE=size,
            COUNT=count,
            GROUPS=_GROUPS,
            GROUP=GROUP,
            num_warps=8,
        )


@kernel
def _race(
    logits: tl.tensor,
    peaks: tl.tensor,
    clocks: tl.tensor,
    temperatures: tl.tensor,
    tokens: tl.tensor,
    stride: tl.tensor,
    SIZE: tl.constexpr,
    COUNT: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    peak = tl.load(peaks + row)
    if (tl.load(temperatures + row) > 0) & (tl.abs(peak) < float("inf")):
        line = logits + row * stride
        clock = clocks + row * (COUNT + GROUP)
        lanes = tl.arange(0, GROUP)
        best = tl.full([GROUPS], -1.0, tl.float32)
        place = tl.zeros([GROUPS], tl.int32)
        for start in range(0, COUNT, GROUPS):
            group = start + tl.arange(0, GROUPS)
            at = group[:, None] * GROUP + lanes[None, :]
            x = tl.load(line + at, mask=at < SIZE, other=-float("inf"))
            noise = tl.load(clock + group, mask=group < COUNT, other=1.0)
            speed = tl.div_rn(tl.sum(tl.exp(x - peak), 1), noise)
            found = (speed > best) & (group < COUNT)
            best = tl.where(found, speed, best)
            place = tl.where(found, group, place)
        winner = tl.min(tl.where(best == tl.max(best), place, _NOWHERE))

        at = winner * GROUP + lanes
        x = tl.load(line + at, mask=at < SIZE, other=-float("inf"))
        speed = tl.div_rn(tl.exp(x - peak), tl.load(clock + COUNT + lanes))
        won = tl.min(tl.where(speed == tl.max(speed), at, _NOWHERE))
        tl.store(tokens + row, won)

"""Exponential noise by place, the same on every device.

What `runtime/sampling/keys.py` draws with numpy: the same raw integers and the same uniform floats
to the bit, so that a seed gives the same tokens on a CPU and on a GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel

_BLOCK = 512  # variates of one program, at most


def exponentials(places: Tensor, count: int) -> Tensor:
    """`count` exponential(1) variates [R, count] float32 for each place.

    Philox 4x64 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    2011), key and counter as numpy's `Philox(key, counter=attempt << 128 | position << 64)`, which
    counts up before it draws. Two variates of each raw integer u64, the low half first:
    u = min((half + 0.5) * 2^-32, 1 - 2^-24), and the variate is -log(1 - u). That is computed in
    float64 and rounded once; numpy's float32 is within 2 ulp of it.

    Args:
        places: [R, 4] int64: a key's low and high word, position, attempt.
    """
    assert places.dtype == torch.int64 and places.shape[1:] == (4,), "places are [R, 4] int64"
    assert places.is_contiguous(), "places are contiguous"
    noise = torch.empty(len(places), count, dtype=torch.float32, device=places.device)
    if len(places):
        block = max(8, min(_BLOCK, triton.next_power_of_2(count)))
        grid = (len(places), triton.cdiv(count, block))
        _exponentials[grid](places, noise, count, BLOCK=block, num_warps=4)
    return noise


@kernel
def uniforms(
    key_low: tl.tensor,
    key_high: tl.tensor,
    position: tl.tensor,
    attempt: tl.tensor,
    counters: tl.tensor,
) -> tl.tensor:
    """Floats in (0, 1), eight for each of `counters` [N] uint64, in order [8 * N]."""
    zeros = counters * 0
    words = tl.philox_impl(
        counters, zeros + position, zeros + attempt, zeros, zeros + key_low, zeros + key_high
    )
    raw = tl.interleave(tl.interleave(words[0], words[2]), tl.interleave(words[1], words[3]))
    halves = tl.interleave((raw & 0xFFFFFFFF).to(tl.uint32), (raw >> 32).to(tl.uint32))
    uniform = (halves.to(tl.float32) + 0.5) * 2.3283064365386963e-10
    return tl.minimum(uniform, 0.99999994039535522)


@kernel
def _exponentials(
    places: tl.tensor, noise: tl.tensor, count: tl.tensor, BLOCK: tl.constexpr
) -> None:
    row = tl.program_id(0).to(tl.int64)
    place = places + row * 4
    first = tl.program_id(1) * (BLOCK // 8)
    uniform = uniforms(
        tl.load(place).to(tl.uint64, bitcast=True),
        tl.load(place + 1).to(tl.uint64, bitcast=True),
        tl.load(place + 2).to(tl.uint64, bitcast=True),
        tl.load(place + 3).to(tl.uint64, bitcast=True),
        (first + 1 + tl.arange(0, BLOCK // 8)).to(tl.uint64),
    ).to(tl.float64)
    rest = 1.0 - uniform
    # log(1 - u) from log(rest), and what rest lost when it was rounded.
    variate = ((rest - 1.0) + uniform) / rest - tl.log(rest)
    at = first * 8 + tl.arange(0, BLOCK)
    tl.store(noise + row * count + at, variate.to(tl.float32), mask=at < count)

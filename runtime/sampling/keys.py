"""Randomness by place: what a draw depends on, and nothing else.

A key names a sequence by (seed, node path, branch); with a position it names one draw. Knows no
batch, no order and no clock, so a draw is the same alone, in company, and after a preemption.
"""

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_intdigest

_STEP = np.float32(2.0**-32)
_BELOW_ONE = np.float32(1 - 2.0**-24)


def sample_key(seed: int, path: bytes | str, branch: int) -> int:
    """The 128-bit key of one branch of one node of one program."""
    path = path.encode() if isinstance(path, str) else path
    return xxh3_128_intdigest(f"{seed}:{branch}:".encode() + path)


def noise(key: int, position: int, count: int, attempt: int = 0) -> NDArray[np.float32]:
    """`count` exponential(1) variates [count] for the draw at `position`, all over 0 and finite;
    others for another attempt there.

    From the raw integers of Philox 4x64 (Salmon et al., "Parallel random numbers: as easy as 1,
    2, 3", 2011), which numpy keeps the same over versions, as it does not its distributions. The
    position is the counter's second word and the attempt its third, so draws never overlap.
    -log1p(-u) keeps the full precision of a float near 0, where a race is won; -log(u) would have
    steps of 2^-24 there.
    """
    raw = np.random.Philox(key=key, counter=attempt << 128 | position << 64).random_raw(
        (count + 1) // 2
    )
    uniform = raw.view(np.uint32)[:count].astype(np.float32)
    uniform += np.float32(0.5)
    uniform *= _STEP
    np.minimum(uniform, _BELOW_ONE, out=uniform)
    np.negative(uniform, out=uniform)
    np.log1p(uniform, out=uniform)
    return np.negative(uniform, out=uniform)

"""Floats as integers in the same order, so that a search over them is one over bits."""

import triton.language as tl

from ramet.kernels.gpu.jit import kernel


@kernel
def ordered(x: tl.tensor) -> tl.tensor:
    """uint32 keys of float32 values: greater where the value is; NaN greatest, both zeros equal.

    The bits of a float that is not negative are in order already; those of a negative one are
    in reverse.
    """
    bits = tl.where(x == 0, 0.0, x).to(tl.uint32, bitcast=True)
    keys = tl.where(bits >> 31 == 1, bits ^ 0xFFFFFFFF, bits | 0x80000000)
    return tl.where(x == x, keys, 0xFFFFFFFF)

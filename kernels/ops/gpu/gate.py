"""The gate of a feed-forward layer."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel

_BLOCK = 1024


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) · up, silu(x) = x / (1 + exp(-x)) (SwiGLU, arXiv 2002.05202), in float32 inside.

    Args:
        gate_up: `[n, 2 * wide]`, its rows contiguous: gate and up beside each other.

    Returns:
        `[n, wide]`, in the same dtype, rounded once.
    """
    rows, both = gate_up.shape
    assert both % 2 == 0, "a gate for each number"
    assert gate_up.stride(1) == 1, "a row lies in one piece"
    wide = both // 2
    result = torch.empty(rows, wide, dtype=gate_up.dtype, device=gate_up.device)
    if rows and wide:
        grid = (rows, triton.cdiv(wide, _BLOCK))
        _gated[grid](gate_up, result, gate_up.stride(0), wide, BLOCK=_BLOCK, num_warps=4)
    return result


@kernel
def _gated(
    gate_up: tl.tensor, result: tl.tensor, stride: tl.tensor, wide: tl.tensor, BLOCK: tl.constexpr
) -> None:
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = at < wide
    gate = tl.load(gate_up + row * stride + at, mask=there, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * stride + wide + at, mask=there, other=0.0).to(tl.float32)
    product = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(result + row * wide + at, product, mask=there)

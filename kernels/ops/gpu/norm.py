"""RMS norm of rows."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel

_WIDEST = 65_536  # numbers of a row, which one program holds at once


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last dimension (arXiv 1910.07467).

    Args:
        x: `[n, dim]`, its rows contiguous. Sums are of float32, and the result is rounded once.
        weight: `[dim]`.
    """
    rows, dim = x.shape
    assert x.stride(1) == 1, "a row lies in one piece"
    assert weight.shape == (dim,) and weight.is_contiguous(), "a weight for each number of a row"
    if dim > _WIDEST:
        raise ValueError(f"rows of {dim} numbers are too wide for this kernel: at most {_WIDEST}")
    result = torch.empty(rows, dim, dtype=x.dtype, device=x.device)
    if rows:
        _rms_norm[(rows,)](
            x,
            weight,
            result,
            x.stride(0),
            eps,
            DIM=dim,
            BLOCK=triton.next_power_of_2(dim),
            num_warps=8 if dim > 2048 else 4,
        )
    return result


@kernel
def _rms_norm(
    x: tl.tensor,
    weight: tl.tensor,
    result: tl.tensor,
    x_stride: tl.tensor,
    eps: float,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    there = at < DIM
    numbers = tl.load(x + row * x_stride + at, mask=there, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt_rn(tl.sum(numbers * numbers) / DIM + eps)
    weights = tl.load(weight + at, mask=there, other=0.0).to(tl.float32)
    tl.store(result + row * DIM + at, numbers * scale * weights, mask=there)

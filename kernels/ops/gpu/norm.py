"""RMS norm of rows, with the residual that is added before it."""

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
    return _launch(x, None, weight, eps)[1]


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The sum x + residual in x's dtype, and its `rms_norm`; both `[n, dim]`, read once."""
    return _launch(x, residual, weight, eps)


def _launch(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    rows, dim = x.shape
    assert x.stride(1) == 1, "a row lies in one piece"
    assert weight.shape == (dim,) and weight.is_contiguous(), "a weight for each number of a row"
    if dim > _WIDEST:
        raise ValueError(f"rows of {dim} numbers are too wide for this kernel: at most {_WIDEST}")
    result = torch.empty(rows, dim, dtype=x.dtype, device=x.device)
    total = x if residual is None else torch.empty_like(result)
    if residual is not None:
        assert residual.shape == x.shape and residual.stride(1) == 1, "a residual for each row"
    if rows:
        added = x if residual is None else residual
        _rms_norm[(rows,)](
            x,
            added,
            weight,
            total,
            result,
            x.stride(0),
            added.stride(0),
            eps,
            ADDED=residual is not None,
            DIM=dim,
            BLOCK=triton.next_power_of_2(dim),
            num_warps=8 if dim > 2048 else 4,
        )
    return total, result


@kernel
def _rms_norm(
    x: tl.tensor,
    residual: tl.tensor,
    weight: tl.tensor,
    total: tl.tensor,
    result: tl.tensor,
    x_stride: tl.tensor,
    residual_stride: tl.tensor,
    eps: float,
    ADDED: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    there = at < DIM
    own = tl.load(x + row * x_stride + at, mask=there, other=0.0)
    numbers = own.to(tl.float32)
    if ADDED:
        added = tl.load(residual + row * residual_stride + at, mask=there, other=0.0)
        summed = (numbers + added.to(tl.float32)).to(own.dtype)
        tl.store(total + row * DIM + at, summed, mask=there)
        numbers = summed.to(tl.float32)
    scale = 1.0 / tl.sqrt_rn(tl.sum(numbers * numbers) / DIM + eps)
    weights = tl.load(weight + at, mask=there, other=0.0).to(tl.float32)
    tl.store(result + row * DIM + at, numbers * scale * weights, mask=there)

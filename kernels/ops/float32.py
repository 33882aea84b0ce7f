"""Linear layers in float32 on the kernel in `csrc/float32.cpp`.

The result of a row depends on no other row.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.kernels.memory import kept

_OUTPUTS = 32  # outputs that lie beside each other


@dataclass(frozen=True, slots=True)
class Float32Weight:
    """A weight `[out, in]`, packed."""

    values: Tensor  # float32 [out / 32, in, 32], padded with zero weights
    outputs: int


def pack(weight: Tensor) -> Float32Weight:
    """Lay out a weight `[out, in]` of any float type."""
    outputs = len(weight)
    padded = F.pad(weight.float(), (0, 0, 0, -outputs % _OUTPUTS))
    return Float32Weight(kept(padded.unflatten(0, (-1, _OUTPUTS)).transpose(1, 2)), outputs)


def linear(
    x: Tensor,
    weight: Float32Weight,
    *,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    norm: Tensor | None = None,
    eps: float = 0.0,
    gated: bool = False,
) -> Tensor:
    """As `int8.linear`, with nothing quantized."""
    return torch.ops.ramet.float_linear(
        x, weight.values, weight.outputs, bias, residual, norm, eps, gated
    )

"""Linear layers in float32 on the kernel in `csrc/float32.cpp`.

The result of a row depends on no other row.
"""

import torch
from torch import Tensor

from ramet.kernels import panels
from ramet.kernels.panels import PanelWeight


def pack(weight: Tensor) -> PanelWeight:
    """Lay out a weight `[out, in]` of any float type."""
    return panels.pack(weight, torch.float32, step=1)


def linear(
    x: Tensor,
    weight: PanelWeight,
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

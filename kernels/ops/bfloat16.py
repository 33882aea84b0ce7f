"""Linear layers with bfloat16 weights on the kernel in `csrc/bfloat16.cpp`.

What comes into the product is rounded to bfloat16; sums and all that is around the product are
float32. The result of a row depends on no other row.
"""

import torch
from torch import Tensor

from ramet.kernels import panels
from ramet.kernels.panels import PanelWeight


def pack(weight: Tensor) -> PanelWeight:
    """Round a weight `[out, in]` of any float type to the nearest, of two to the even one."""
    return panels.pack(weight, torch.bfloat16, step=2)


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
    """As `int8.linear`, with f(x) and weights in bfloat16; the arguments are float32."""
    return torch.ops.ramet.bfloat16_linear(
        x, weight.values, weight.outputs, bias, residual, norm, eps, gated
    )

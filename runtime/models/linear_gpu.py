"""Linear layers on a GPU. Imports triton; only who loads a model to a GPU imports it."""

import torch.nn.functional as F
from torch import Tensor

from ramet.kernels.gpu.gate import gated
from ramet.kernels.gpu.norm import rms_norm


class GpuLinear:
    """The product by cuBLAS; norm and gate in a launch each.

    A residual is added by the product itself, in place: what a layer adds to is not needed again.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        total = residual.addmm_(x, self._weight.t())
        return total if self._bias is None else total.add_(self._bias)

    def of_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self(rms_norm(x, weight, eps))

    def of_gate_added_to(self, residual: Tensor, gate_up: Tensor) -> Tensor:
        return self.added_to(residual, gated(gate_up))

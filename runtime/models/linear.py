"""Linear layers, by how their weights are kept, with what comes before and after them."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.kernels.decoder import Packed
from ramet.runtime.models.layers import rms_norm


class Linear(Protocol):
    """`x @ weight.T + bias`: `[n, out]` from `[n, in]`. A row's result depends on no other row."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """`residual + self(x)`; the residual may be overwritten."""
        ...

    def of_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """`self(rms_norm(x, weight, eps))`"""
        ...

    def of_gate_added_to(self, residual: Tensor, gate_up: Tensor) -> Tensor:
        """`residual + self(silu(gate) · up)`, from both beside each other `[n, 2 * in]`.

        The residual may be overwritten.
        """
        ...


class LinearMaker(Protocol):
    """Makes a layer of its weight `[out, in]` and bias `[out]`."""

    def __call__(self, weight: Tensor, bias: Tensor | None = None) -> Linear: ...


class Kernel(Protocol):
    """A module of linear layers that packs their weights: `float32`, `bfloat16` or `int8`."""

    @property
    def pack(self) -> Callable[[Tensor], Any]: ...

    @property
    def linear(self) -> Callable[..., Tensor]: ...


class FloatLinear:
    """In the weight's own dtype, on CPU with the weight packed for oneDNN's kernels.

    Packing once saves laying the weight out anew in each call: measured at the shapes of
    SmolLM2-135M in float32 (2 cores, AVX-512), all layers took 24 against 45 ms for one row, 50
    against 89 ms for 32, and 90 against 149 ms for 64.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._packed = packs(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self._packed else weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed:
            return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return F.linear(x, self._weight, self._bias)

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        if self._packed:
            return torch.ops.mkldnn._linear_pointwise.binary(
                x, residual, self._weight, self._bias, "add"
            )
        return residual + F.linear(x, self._weight, self._bias)

    def of_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self(rms_norm(x, weight, eps))

    def of_gate_added_to(self, residual: Tensor, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return self.added_to(residual, F.silu(gate).mul_(up))


class CompiledLinear:
    """On one of our own kernels; the input is float32."""

    def __init__(self, kernel: Kernel, weight: Tensor, bias: Tensor | None = None) -> None:
        self._linear = kernel.linear
        self._weight = kernel.pack(weight)
        self._bias = bias

    @property
    def packed(self) -> Packed:
        weight = self._weight
        return weight.values, weight.scales, weight.outputs, self._bias

    def __call__(self, x: Tensor) -> Tensor:
        return self._linear(x, self._weight, bias=self._bias)

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        return self._linear(x, self._weight, bias=self._bias, residual=residual)

    def of_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self._linear(x, self._weight, bias=self._bias, norm=weight, eps=eps)

    def of_gate_added_to(self, residual: Tensor, gate_up: Tensor) -> Tensor:
        return self._linear(gate_up, self._weight, bias=self._bias, residual=residual, gated=True)


def packs(weight: Tensor) -> bool:
    """Whether oneDNN packs this weight here."""
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )

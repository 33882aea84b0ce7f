"""Linear layers with int8 weights and activations, on the kernel in `csrc/int8.cpp`.

Every `GROUP` inputs of an output share a scale, as every `GROUP` activations of a row do; both are
symmetric, -127 to 127, after a rotation of the group by a Hadamard matrix, which spreads outliers
(QuaRot, arXiv 2404.00456, section 3). The result of a row depends on no other row.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.kernels import extension
from ramet.kernels.memory import kept

GROUP = 64  # inputs that share a scale
_OUTPUTS = 32  # outputs that lie beside each other
_STEP = 4  # inputs of one dot product


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """A weight `[out, in]`, packed."""

    values: Tensor  # uint8, value + 128: [out / 32, in / 64, 16, 32, 4], padded with zero weights
    scales: Tensor  # float32 [out / 32, in / 64, 32]
    outputs: int


def available(folder: Path | None = None) -> bool:
    """Whether the kernel can be had here, built if it must be; a warning says why not.

    Args:
        folder: where compiled kernels are kept; None: in the user's cache folder.
    """
    return extension.loaded(folder)


def pack(weight: Tensor) -> Int8Weight:
    """Quantize a weight `[out, in]` of any float type."""
    outputs, inputs = weight.shape
    padded = F.pad(weight.float(), (0, -inputs % GROUP, 0, -outputs % _OUTPUTS))
    groups = padded.view(-1, _OUTPUTS, padded.shape[1] // GROUP, GROUP) @ _hadamard(GROUP)
    peaks = groups.abs().amax(-1, keepdim=True)
    whole = (groups * (127 / peaks).where(peaks > 0, 0)).round() + 128
    steps = whole.to(torch.uint8).unflatten(-1, (-1, _STEP))
    return Int8Weight(
        values=kept(steps.permute(0, 2, 3, 1, 4)),
        scales=kept((peaks[..., 0] / 127).transpose(1, 2)),
        outputs=outputs,
    )


def unpack(weight: Int8Weight, inputs: int) -> Tensor:
    """The weight `[out, in]` float32 that the packed one stands for."""
    whole = (weight.values.float() - 128).permute(0, 3, 1, 2, 4).flatten(-2)
    groups = whole * weight.scales.transpose(1, 2)[..., None] @ _hadamard(GROUP)
    return groups.flatten(2).flatten(0, 1)[: weight.outputs, :inputs]


def linear(
    x: Tensor,
    weight: Int8Weight,
    *,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    norm: Tensor | None = None,
    eps: float = 0.0,
    gated: bool = False,
) -> Tensor:
    """`residual + f(x) @ weight.T + bias`, float32 `[n, out]`, from x float32 `[n, in]`.

    f is the RMS norm with weight `norm` and `eps` (arXiv 1910.07467), or with `gated`
    silu(gate) · up for x = (gate, up) `[n, 2 · in]` (arXiv 2002.05202), or nothing.
    """
    return torch.ops.ramet.int8_linear(
        x, weight.values, weight.scales, weight.outputs, bias, residual, norm, eps, gated
    )


def _hadamard(size: int) -> Tensor:
    """The symmetric orthogonal matrix `[size, size]` of Sylvester's construction."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(matrix, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    return matrix / size**0.5

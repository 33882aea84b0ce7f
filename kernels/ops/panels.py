"""Weights of linear layers in panels of 32 outputs, as `csrc/panels.h` reads them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.kernels.memory import kept

_OUTPUTS = 32  # outputs that lie beside each other


@dataclass(frozen=True, slots=True)
class PanelWeight:
    """A weight `[out, in]`, packed."""

    values: Tensor  # [out / 32, in / step, 32, step], padded with zero weights
    outputs: int

    @property
    def scales(self) -> None:
        """It has none."""


def pack(weight: Tensor, dtype: torch.dtype, step: int) -> PanelWeight:
    """Lay out a weight `[out, in]` of any float type as numbers of `dtype`.

    Args:
        step: inputs whose weights lie beside each other.
    """
    outputs, inputs = weight.shape
    padded = F.pad(weight.to(dtype), (0, -inputs % step, 0, -outputs % _OUTPUTS))
    steps = padded.unflatten(0, (-1, _OUTPUTS)).unflatten(2, (-1, step))
    return PanelWeight(kept(steps.transpose(1, 2)), outputs)

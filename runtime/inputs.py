"""What a forward pass gets besides attention, and how it comes to the device.

Knows arrays and devices, and neither sequences nor models.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Of `T` tokens."""

    tokens: Ints  # [T]
    positions: Ints  # [T]
    rows: Ints  # [R] whose logits are wanted

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The three as tensors; to a GPU they go in one copy that nobody waits for."""
        arrays = (self.tokens, self.positions, self.rows)
        packed = staged(np.concatenate(arrays), device).to(device, non_blocking=True)
        tokens, positions, rows = packed.split([len(array) for array in arrays])
        return tokens, positions, rows


def staged(array: Ints, device: torch.device) -> Tensor:
    """The array as a CPU tensor from which a copy to the device need not be waited for.

    For a GPU it lies in page-locked memory, which torch does not hand out again before copies from
    it are done.
    """
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory()

"""What a forward pass gets besides attention, and how it comes to the device.

Knows arrays and devices, and neither sequences nor models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramet.kernels.memory import staging

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
        packed = staged(arrays, device).to(device, non_blocking=True)
        tokens, positions, rows = packed.split([len(array) for array in arrays])
        return tokens, positions, rows


def staged(arrays: Sequence[Ints | Sequence[int]], device: torch.device) -> Tensor:
    """The arrays one after the other, int64, where a copy to the device need not be waited for."""
    buffer = staging(sum(map(len, arrays)), torch.int64, device)
    np.concatenate(arrays, out=buffer.numpy())
    return buffer


def indices(numbers: Sequence[int], device: torch.device) -> Tensor:
    """int64 on the device, by a copy that nobody waits for. Indexing there with numbers of the host
    would wait."""
    return staged([numbers], device).to(device, non_blocking=True)

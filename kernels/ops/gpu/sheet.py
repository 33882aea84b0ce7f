"""One int32 buffer on a device, with arrays at fixed places, filled by one copy.

Knows shapes, not what the numbers mean.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramet.kernels.memory import staging

_LINE = 16  # int32 numbers; arrays begin at multiples of 64 bytes


class Sheet:
    """Room for arrays of these shapes."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], device: torch.device) -> None:
        lengths = [-(-math.prod(shape) // _LINE) * _LINE for shape in shapes]
        self._places = [0, *np.cumsum(lengths, dtype=np.int64).tolist()]
        self._shapes = list(shapes)
        self._buffer = torch.empty(self._places[-1], dtype=torch.int32, device=device)

    def fill(self, arrays: Sequence[NDArray[np.int64]]) -> None:
        """Write each array to the first indices of its room; what is left of that is undefined.

        Raises:
            ValueError: one does not fit; nothing was written.
        """
        for index, (array, room) in enumerate(zip(arrays, self._shapes, strict=True)):
            if any(size > most for size, most in zip(array.shape, room, strict=True)):
                raise ValueError(f"array {index} has room for {room}, and is {array.shape}")
        host = staging(len(self._buffer), torch.int32, self._buffer.device)
        for index, array in enumerate(arrays):
            inside = tuple(map(slice, array.shape))
            self._part(host, index).numpy()[inside] = array
        self._buffer.copy_(host, non_blocking=True)

    def part(self, index: int) -> Tensor:
        """The room of an array, int32; the same memory however often it is filled."""
        return self._part(self._buffer, index)

    def _part(self, buffer: Tensor, index: int) -> Tensor:
        place, shape = self._places[index], self._shapes[index]
        return buffer[place : place + math.prod(shape)].view(shape)

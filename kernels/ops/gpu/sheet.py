"""One int32 buffer on a device, with sub-buffers at fixed places, filled by one copy.

Knows lengths, not what the numbers mean. The host's side is pinned, so that the copy need not be
waited for; torch hands pinned memory out again only when the copy out of it is done.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LINE = 16  # int32 numbers; sub-buffers begin at multiples of 64 bytes


class Sheet:
    """Sub-buffers of so many numbers each."""

    def __init__(self, rooms: Sequence[int], device: torch.device) -> None:
        lengths = [-(-room // _LINE) * _LINE for room in rooms]
        self._places = [0, *np.cumsum(lengths, dtype=np.int64).tolist()]
        self._rooms = list(rooms)
        self._buffer = torch.empty(self._places[-1], dtype=torch.int32, device=device)

    def fill(self, arrays: Sequence[NDArray[np.int64]]) -> None:
        """Write an array to each sub-buffer, −1 to what is left of it.

        Raises:
            ValueError: one does not fit; nothing was written.
        """
        for index, (array, room) in enumerate(zip(arrays, self._rooms, strict=True)):
            if array.size > room:
                raise ValueError(f"sub-buffer {index} holds {room} numbers, not {array.size}")
        host = torch.empty(
            len(self._buffer), dtype=torch.int32, pin_memory=self._buffer.device.type == "cuda"
        )
        numbers = host.numpy()
        numbers.fill(-1)
        for array, place in zip(arrays, self._places, strict=False):
            numbers[place : place + array.size] = array.reshape(-1)
        self._buffer.copy_(host, non_blocking=True)

    def part(self, index: int, *shape: int) -> Tensor:
        """A sub-buffer as int32 of this shape; the same memory however often it is filled."""
        place = self._places[index]
        return self._buffer[place : place + self._rooms[index]].view(*shape)

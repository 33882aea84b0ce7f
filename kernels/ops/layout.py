"""Where keys and values lie, and what a backend is told about a step. Shapes, no arithmetic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CPU = torch.device("cpu")
_LINE = 64  # bytes of a cache line


@dataclass(frozen=True, slots=True)
class KVLayout:
    """The shape of a key/value cache."""

    layers: int
    kv_heads: int
    head_dim: int
    num_blocks: int
    block_size: int
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU

    @property
    def slots(self) -> int:
        """Slots a token can be written to: block `b` holds slots `b * block_size` and on."""
        return self.num_blocks * self.block_size

    @property
    def block_bytes(self) -> int:
        """Bytes that one block takes over all layers, keys and values."""
        numbers = self.layers * 2 * self.kv_heads * self.block_size * self.head_dim
        return numbers * self.dtype.itemsize


class KVCache:
    """The keys and values of every block.

    `data` is `[layers, 2, kv_heads, slots + 1, head_dim]`: a block of one head is contiguous, and
    a head's slots are rows of one matrix, so a gather of any slots is one indexed read. The last
    slot is the *null slot*: always zero, never written. Padding points there, so that masked
    positions contribute 0 · 0 and never 0 · NaN from whatever a free block was left with.
    """

    def __init__(self, layout: KVLayout) -> None:
        shape = (layout.layers, 2, layout.kv_heads, layout.slots + 1, layout.head_dim)
        self.layout = layout
        self.data = _zeros(shape, layout)

    @property
    def null_slot(self) -> int:
        return self.layout.slots


def _zeros(shape: tuple[int, ...], layout: KVLayout) -> Tensor:
    """On CPU, pages that nobody has written to yet take no memory and no time."""
    if layout.device.type != "cpu":
        return torch.zeros(shape, dtype=layout.dtype, device=layout.device)
    pages = np.zeros(math.prod(shape) * layout.dtype.itemsize + _LINE, np.uint8)
    start = -pages.ctypes.data % _LINE
    return (
        torch.from_numpy(pages[start : len(pages) - _LINE + start]).view(layout.dtype).view(shape)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """The last `R` query tokens of a sequence, where they are continuations beside each other.

    In the block table they lie one after the other behind the context before them, all of which
    each of them sees. Of each other they see what `ancestors` says. A token's position is the
    length of that context and the number of its ancestors.
    """

    sequence: int
    ancestors: NDArray[np.bool_]  # [R, R] token i sees token j: itself, and none that comes later

    @property
    def depths(self) -> NDArray[np.int64]:
        """Position of each token behind the context [R], from 0."""
        return self.ancestors.sum(1) - 1


@dataclass(frozen=True, slots=True)
class Step:
    """One varlen batch over `S` sequences and `T` query tokens; integer tensors on the CPU."""

    query_starts: Tensor  # [S + 1] int64; sequence i owns query rows starts[i] … starts[i + 1]
    contexts: Tensor  # [S] int64; tokens in context at the last query token, that one included
    block_tables: Tensor  # [S, M] int64; unused entries are -1 and never read
    slots: Tensor  # [T] int64; where a token's key and value go, -1 where they already are
    trees: Sequence[Tree] = ()  # of sequences whose last tokens form one; of each at most one

    @property
    def tokens(self) -> int:
        return int(self.query_starts[-1])

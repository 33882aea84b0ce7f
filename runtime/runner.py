"""A batch becomes tensors, runs through the model, and comes back as logits.

The only file that knows both block tables and tensors. What outlives a step is the cache, and on a
GPU the graphs of steps that were captured.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ramet.cache import Copy
from ramet.kernels import KVCache, KVLayout, Step, Tree, backend_for
from ramet.runtime.batch import Batch, Entry
from ramet.runtime.inputs import Inputs, Ints
from ramet.runtime.models import Model, ModelShape, PagedAttention

Replay = Callable[[Inputs, Step], Tensor | None]
"""A step's logits, or None: it has to be run."""


class Runner:
    """Runs batches of one model over one key/value cache."""

    def __init__(
        self,
        model: Model,
        num_blocks: int,
        block_size: int,
        kernels: Path | None = None,
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        """Take memory for the blocks.

        Args:
            kernels: where compiled ones are kept; None: in the user's cache folder.
            kv_dtype: of keys and values; None: the model's own.
        """
        self.model = model
        self.layout = layout_of(model.shape, num_blocks, block_size, kv_dtype)
        self.backend = backend_for(KVCache(self.layout), kernels, model.shape.dtype)
        self.replay: Replay | None = None  # of steps that were captured, on a GPU

    def run(self, batch: Batch) -> Tensor:
        """Logits `[R, vocab]` float32: each entry's `outputs` last tokens, in batch order."""
        if not batch.tokens:
            return torch.empty(0, self.model.shape.vocab, device=self.layout.device)
        entries = [entry for entry in batch.entries if entry.count]
        tokens, places, rows = _inputs(entries)
        step = _step(entries, places, self.layout.block_size)
        return self.forward(Inputs(tokens, _positions(places, step), rows), step, batch.copies)

    def forward(self, inputs: Inputs, step: Step, copies: Sequence[Copy] = ()) -> Tensor:
        """Logits `[R, vocab]` float32, after copying blocks. On a GPU nobody waits for them.

        That GPU is the thread's current one from now on: kernels are launched on that.
        """
        if self.layout.device.type == "cuda":
            torch.cuda.set_device(self.layout.device)
        self.backend.copy_blocks(copies)
        if self.replay is not None and (logits := self.replay(inputs, step)) is not None:
            return logits
        attention = PagedAttention(self.backend, self.backend.plan(step))
        tokens, positions, rows = inputs.on(self.layout.device)
        return self.model.forward(tokens, positions, attention, rows)

    def use_graphs(self, most: int) -> None:
        """From now on run decode steps of up to `most` sequences as CUDA graphs, on a GPU."""
        if self.layout.device.type == "cuda":
            from ramet.kernels.gpu.backend import GpuBackend
            from ramet.runtime.graphs import DecodeGraphs

            assert isinstance(self.backend, GpuBackend), "what serves a GPU"
            self.replay = DecodeGraphs(self.model, self.backend, most).run


def layout_of(
    shape: ModelShape, num_blocks: int, block_size: int, kv_dtype: torch.dtype | None = None
) -> KVLayout:
    """The cache layout of a model with that many blocks."""
    return KVLayout(
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        num_blocks=num_blocks,
        block_size=block_size,
        dtype=kv_dtype or shape.dtype,
        device=shape.device,
    )


def _inputs(entries: list[Entry]) -> tuple[Ints, Ints, Ints]:
    """Tokens [T], their places in the tables [T], and the rows [R] whose logits are wanted."""
    tokens = [entry.tokens for entry in entries]
    counts = np.array([entry.count for entry in entries])
    starts = np.array([entry.start for entry in entries])
    outputs = np.array([entry.outputs for entry in entries])
    ends = np.cumsum(counts)
    places = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
    last = np.cumsum(outputs)
    rows = np.arange(last[-1]) + np.repeat(ends - last, outputs)
    return np.fromiter(chain.from_iterable(tokens), np.int64, int(ends[-1])), places, rows


def _positions(places: Ints, step: Step) -> Ints:
    """Positions [T]: the places, but in a tree, where tokens beside each other have the same."""
    for tree in step.trees:
        last = int(step.query_starts[tree.sequence + 1])
        first = last - len(tree.ancestors)
        places[first:last] = places[first] + tree.depths
    return places


def _step(entries: list[Entry], places: Ints, block_size: int) -> Step:
    tables = [entry.task.sequence.table for entry in entries]
    counts = np.array([entry.count for entry in entries])
    committed = np.repeat([table.length for table in tables], counts)
    blocks = _padded([table.blocks for table in tables])
    rows = np.repeat(np.arange(len(entries)), counts)
    slots = blocks[rows, places // block_size] * block_size + places % block_size
    return Step(
        query_starts=torch.from_numpy(np.concatenate(([0], np.cumsum(counts)))),
        contexts=torch.tensor([entry.end for entry in entries]),
        block_tables=torch.from_numpy(blocks),
        slots=torch.from_numpy(np.where(places < committed, -1, slots)),
        trees=[
            Tree(index, entry.trie.ancestors)
            for index, entry in enumerate(entries)
            if entry.trie is not None
        ],
    )


def _padded(lists: list[list[int]]) -> Ints:
    """Lists of block ids as one matrix, filled up with −1."""
    lengths = np.array([len(blocks) for blocks in lists])
    matrix = np.full((len(lists), int(lengths.max())), -1, np.int64)
    inside = np.arange(matrix.shape[1]) < lengths[:, None]
    matrix[inside] = np.fromiter(chain.from_iterable(lists), np.int64, int(lengths.sum()))
    return matrix

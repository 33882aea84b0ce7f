"""Cuts a varlen batch into *tiles*: dense, padded problems that a matrix product can do.

Knows positions and block tables, and makes index tensors; touches no key, value or query.

An *item* is one sequence, or up to `MAX_ROWS` query tokens of one; of a tree, an item of its own,
which differs in its mask. A tile is a set of items with
about as many query rows and about as much context each. Where many items begin with the same
blocks, that *shared run* is named once for the tile and read once for all its rows: the prefix is
one matrix product for the group (Hydragen, arXiv 2402.05099, section 3.1), and since its scores lie
beside the items' own in one matrix, a single softmax over both takes the place of a merge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramet.kernels.layout import Step, Tree

Ints = NDArray[np.int64]

MAX_ROWS = 128  # query rows of an item: bounds the score matrix and the causal half wasted
MAX_SCORES = 1 << 20  # scores of an item and a head: fewer rows where the context is long
MAX_KEYS = 8192  # keys gathered for a tile: what was gathered is still in cache when it is read
MIN_FILL = 0.7  # an item with less context than this part of the tile's longest opens another
MIN_SAVED = 512  # key reads that sharing a run must save before the run is shared


@dataclass(frozen=True, slots=True)
class Item:
    """Query rows `row … row + rows` of one sequence; the last is number `end` in its table."""

    sequence: int
    row: int
    rows: int
    end: int
    tree: Tree | None = None  # that the rows belong to
    base: int = 0  # then, tokens of the context before the tree

    @property
    def position(self) -> int:
        """Up to here, every query row sees all of the table."""
        return self.end - self.rows if self.tree is None else self.base

    def seen(self, keys: Ints, window: int | None) -> NDArray[np.bool_]:
        """Which of the table's places `keys` [K] the rows of a tree see [rows, K]."""
        assert self.tree is not None, "a chain sees all before it"
        first = self.end - self.rows - self.base
        size = len(self.tree.ancestors)
        inside = np.clip(keys - self.base, 0, size - 1)
        ancestors = self.tree.ancestors[first : first + self.rows]
        seen = np.where(keys < self.base, True, ancestors[:, inside] & (keys < self.base + size))
        if window is not None:
            depths = self.tree.depths
            positions = np.where(keys < self.base, keys, self.base + depths[inside])
            seen &= positions > self.base + depths[first : first + self.rows, None] - window
        return seen


@dataclass(frozen=True, slots=True)
class Tile:
    """`s` items of `q` rows (padded) over a shared run of `L` keys and `K` keys of their own."""

    items: int
    rows: int
    query: Tensor  # [s * q] rows of the batch to read; padding repeats a row of the item
    out: Tensor  # [s * q] rows to write; padding goes to the row after the last
    shared: Tensor  # [kv_heads * L] rows of the head-major key matrix; empty if nothing is shared
    own: Tensor  # [kv_heads * s * K] rows of the head-major key matrix; padding: the null slot
    mask: Tensor | None  # [s, q, 1, K] 0 or −inf; None where every row sees all K


def items(step: Step, most_rows: int = MAX_ROWS) -> list[Item]:
    """The batch as items of at most so many rows, in row order."""
    starts: list[int] = step.query_starts.tolist()
    contexts: list[int] = step.contexts.tolist()
    trees = {tree.sequence: tree for tree in step.trees}
    found: list[Item] = []
    for sequence, context in enumerate(contexts):
        first, last = starts[sequence], starts[sequence + 1]
        tree = trees.get(sequence)
        split = last if tree is None else last - len(tree.ancestors)
        base = context - (last - split)
        most = max(1, min(most_rows, MAX_SCORES // context))
        for row in range(first, split, most):
            rows = min(most, split - row)
            found.append(Item(sequence, row, rows, base - (split - row - rows)))
        for row in range(split, last, most):
            rows = min(most, last - row)
            found.append(Item(sequence, row, rows, context - (last - row - rows), tree, base))
    return found


def shared_runs(batch: Sequence[Item], tables: Ints, block: int) -> list[tuple[list[Item], int]]:
    """Groups of items with the number of leading blocks they share; 0 where none pays."""
    by_root: dict[int, list[Item]] = {}
    for item in batch:
        by_root.setdefault(int(tables[item.sequence, 0]), []).append(item)
    groups: list[tuple[list[Item], int]] = []
    alone: list[Item] = []
    for members in by_root.values():
        rest = members
        while (split := _best_run(rest, tables, block)) is not None:
            group, rest, run = split
            groups.append((group, run))
        alone += rest
    if alone:
        groups.append((alone, 0))
    return groups


def _best_run(
    members: Sequence[Item], tables: Ints, block: int
) -> tuple[list[Item], list[Item], int] | None:
    """The run of the deepest member that saves most: who shares it, who does not, its blocks.

    A run ends before the first query position of everybody who shares it, so it needs no mask.
    """
    if len(members) < 2:
        return None
    visible = np.array([item.position // block for item in members])
    if int(visible.max()) * block * (len(members) - 1) < MIN_SAVED:
        return None
    own = tables[[item.sequence for item in members], : int(visible.max())]
    deepest = own[int(visible.argmax())]
    depth = np.minimum(np.cumprod(own == deepest, axis=1).sum(axis=1), visible)
    order = np.argsort(-depth, kind="stable")
    saved = np.arange(len(members)) * depth[order]
    best = int(saved.argmax())
    run = int(depth[order[best]])
    if int(saved[best]) * block < MIN_SAVED:
        return None
    group = [item for item, deep in zip(members, depth, strict=True) if deep >= run]
    rest = [item for item, deep in zip(members, depth, strict=True) if deep < run]
    return group, rest, run


def buckets(group: Sequence[Item], run: int) -> Iterator[list[Item]]:
    """Split a group so that padding stays small; `run` keys are not the items' own."""
    bucket: list[Item] = []
    for item in sorted(group, key=lambda item: (_padded(item.rows), item.end), reverse=True):
        if bucket and not _fits(item, bucket, run):
            yield bucket
            bucket = []
        bucket.append(item)
    if bucket:
        yield bucket


def _fits(item: Item, bucket: Sequence[Item], run: int) -> bool:
    longest = bucket[0].end - run
    return (
        _padded(item.rows) == _padded(bucket[0].rows)
        and item.end - run >= MIN_FILL * longest - 16
        and (len(bucket) + 1) * longest <= MAX_KEYS
    )


def _padded(rows: int) -> int:
    return 1 << (rows - 1).bit_length()


@dataclass(frozen=True, slots=True)
class TileMaker:
    """Turns items into index tensors for one step of one cache."""

    tables: Ints  # [S, M]
    block: int
    kv_heads: int
    stride: int  # rows of one head in the head-major key matrix: slots + 1
    tokens: int  # T
    window: int | None
    dtype: torch.dtype

    def tiles(self, batch: Sequence[Item]) -> list[Tile]:
        if self.window is None:
            groups = shared_runs(batch, self.tables, self.block)
        else:
            groups = [(list(batch), 0)]
        return [
            self._tile(bucket, run * self.block)
            for group, run in groups
            for bucket in buckets(group, run * self.block)
        ]

    def _tile(self, bucket: Sequence[Item], run: int) -> Tile:
        rows = max(item.rows for item in bucket)
        first = np.array([item.row for item in bucket])[:, None]
        count = np.array([item.rows for item in bucket])[:, None]
        end = np.array([item.end for item in bucket])[:, None]
        offset = np.arange(rows)[None, :]
        query = first + np.minimum(offset, count - 1)
        out = np.where(offset < count, first + offset, self.tokens)
        begin = np.full_like(end, run)
        if self.window is not None:
            first_seen = np.array([item.position for item in bucket])[:, None] - self.window + 1
            begin = np.maximum(0, first_seen)
        keys = begin + np.arange(int((end - begin).max()))[None, :]
        table = self.tables[[item.sequence for item in bucket]]
        return Tile(
            items=len(bucket),
            rows=rows,
            query=torch.from_numpy(query.reshape(-1)),
            out=torch.from_numpy(out.reshape(-1)),
            shared=self._head_rows(self._slots(table[:1], np.arange(run)[None, :], run)),
            own=self._head_rows(self._slots(table, keys, end)),
            mask=self._mask(bucket, keys, query - first + end - count),
        )

    def _slots(self, table: Ints, keys: Ints, end: Ints | int) -> Ints:
        """The slot of every key position, the null slot from `end` on."""
        known = keys < end
        blocks = np.take_along_axis(table, np.where(known, keys // self.block, 0), axis=1)
        return np.where(known, blocks * self.block + keys % self.block, self.stride - 1)

    def _head_rows(self, slots: Ints) -> Tensor:
        heads = np.arange(self.kv_heads)[:, None] * self.stride
        return torch.from_numpy((heads + slots.reshape(1, -1)).reshape(-1))

    def _mask(self, bucket: Sequence[Item], keys: Ints, place: Ints) -> Tensor | None:
        """`keys` [s, K] against the query rows' places in the table [s, q]."""
        seen = keys[:, None, :] <= place[:, :, None]
        if self.window is not None:
            seen &= keys[:, None, :] > place[:, :, None] - self.window
        for index, item in enumerate(bucket):
            if item.tree is not None:
                seen[index, : item.rows] = item.seen(keys[index], self.window)
        if seen.all():
            return None
        mask = torch.zeros(seen.shape, dtype=self.dtype)
        return mask.masked_fill_(torch.from_numpy(~seen), float("-inf")).unsqueeze(2)

"""Cuts a step into *units* for the compiled backend: who attends together, and to what.

Knows positions and block tables; touches no key, value or query. An *item* is some query tokens of
one sequence. Items in the order of their block tables are a forest: those with a run of blocks in
common stand beside each other. Where a run pays it is one *pass* for all who share it, and within
it so are the runs of fewer of them; each item's own keys come last. A unit is as many neighbours
as fill `UNIT_ROWS`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramet.kernels.layout import Step
from ramet.kernels.tiles import Item, items

Ints = NDArray[np.int64]

ITEM_ROWS = 128  # query rows, of all heads that share a key head, of a piece of a prompt
UNIT_ROWS = 96  # and of those that pass over a shared run together
# Key reads that a pass saves at least. In the sweep of bench/kernels.py one that saves 256 (two
# sequences, 256 keys) takes 0.84 of the time; with 240 or fewer nothing is won, and up to 8 % lost.
MIN_SAVED = 256

_CHAIN = (-1, 0, 0, 0)  # an item's tree, if it has none


@dataclass(frozen=True, slots=True)
class Cut:
    """A step cut for the layers of one kind, as the structs in csrc/attention.cpp; int64."""

    units: Tensor  # [U, 4] items and passes: the first, and the one after the last
    passes: Tensor  # [P, 4] items likewise, and the first key and the one after the last
    items: Tensor  # [I, 9] sequence, row, rows, end, own keys' begin; base and place of its tree


@dataclass(frozen=True, slots=True)
class Family:
    """Neighbours in the order of tables, and how many blocks each has in common with the one
    before it, all of which both see in full; 0 for the first."""

    members: list[Item]
    common: Ints


def cut(step: Step, block: int, groups: int, *, share: bool, least_saved: int = MIN_SAVED) -> Cut:
    """Cut a step.

    Args:
        groups: query heads to a key head.
        share: whether runs may be shared; layers with a window share none.
        least_saved: key reads that a pass saves at least.
    """
    batch = items(step, max(1, ITEM_ROWS // groups))
    tables = step.block_tables.numpy()
    found = families(batch, tables, block, least_saved) if share else _alone(batch)
    trees = _tree_places(step)
    units: list[tuple[int, ...]] = []
    passes: list[tuple[int, ...]] = []
    rows: list[tuple[int, ...]] = []
    for family in found:
        for unit in _units(family, UNIT_ROWS // groups):
            first, first_pass = len(rows), len(passes)
            own = [0] * len(unit.members)
            for left, right, begin, end in runs(unit.common, block, least_saved):
                passes.append((first + left, first + right, begin * block, end * block))
                own[left:right] = [end * block] * (right - left)
            for item, begin in zip(unit.members, own, strict=True):
                tree = trees.get(id(item.tree), _CHAIN)
                rows.append((item.sequence, item.row, item.rows, item.end, begin, *tree))
            units.append((first, len(rows), first_pass, len(passes)))
    return Cut(
        units=_by_cost(units, rows),
        passes=torch.tensor(passes, dtype=torch.int64).view(-1, 4),
        items=torch.tensor(rows, dtype=torch.int64).view(-1, 9),
    )


def families(batch: Sequence[Item], tables: Ints, block: int, least_saved: int) -> list[Family]:
    """The largest sets of items that a pass pays for, and all others alone."""
    roots = tables[[item.sequence for item in batch], 0] if batch else tables[:0, 0]
    if len(np.unique(roots)) == len(batch):
        return _alone(batch)
    blocks = [item.position // block for item in batch]
    names = [
        tables[item.sequence, :seen].tobytes() for item, seen in zip(batch, blocks, strict=True)
    ]
    order = sorted(range(len(batch)), key=names.__getitem__)
    ordered, seen = [batch[i] for i in order], np.array(blocks)[order]
    sorted_tables = tables[[item.sequence for item in ordered], : int(seen.max())]
    common = np.zeros(len(batch), np.int64)
    equal = np.logical_and.accumulate(sorted_tables[1:] == sorted_tables[:-1], axis=1).sum(axis=1)
    common[1:] = np.minimum(equal, np.minimum(seen[1:], seen[:-1]))
    found: list[Family] = []
    at = 0
    for left, right, begin, _ in [*runs(common, block, least_saved), (len(batch),) * 4]:
        if begin and left < len(batch):  # a run within another
            continue
        found += _alone(ordered[at:left])
        if left < right:
            found.append(Family(ordered[left:right], common[left:right]))
        at = right
    return found


def runs(common: Ints, block: int, least_saved: int) -> Iterator[tuple[int, int, int, int]]:
    """Passes that pay, outer ones first: (first, last) members and (begin, end) blocks.

    A run is as long as all of its members have it in common; behind it they part.
    """
    waiting = [(0, len(common), 0)]
    while waiting:
        left, right, begin = waiting.pop()
        if right - left < 2:
            continue
        between = common[left + 1 : right]
        end = int(between.min())
        if (end - begin) * block * (right - left - 1) >= max(1, least_saved):
            yield left, right, begin, end
            begin = end
        edges = [left, *(left + 1 + np.flatnonzero(between == end)).tolist(), right]
        waiting += [(a, b, begin) for a, b in zip(edges[-2::-1], edges[:0:-1], strict=True)]


def _units(family: Family, most: int) -> Iterator[Family]:
    """Neighbours with about as many rows in each, at most `most` but for a single item."""
    total = sum(item.rows for item in family.members)
    share = total / max(1, -(-total // max(1, most)))
    first = rows = 0
    for at, item in enumerate(family.members):
        if at > first and rows + item.rows / 2 > share:
            yield Family(family.members[first:at], family.common[first:at])
            first, rows = at, 0
        rows += item.rows
    yield Family(family.members[first:], family.common[first:])


def _alone(batch: Sequence[Item]) -> list[Family]:
    return [Family([item], np.zeros(1, np.int64)) for item in batch]


def _by_cost(units: Sequence[tuple[int, ...]], rows: Sequence[tuple[int, ...]]) -> Tensor:
    """The units with most scores first, so that threads end together."""
    cost = [sum(row[2] * row[3] for row in rows[unit[0] : unit[1]]) for unit in units]
    order = np.argsort([-each for each in cost], kind="stable")
    return torch.tensor([units[i] for i in order], dtype=torch.int64).view(-1, 4)


def _tree_places(step: Step) -> dict[int, tuple[int, int, int, int]]:
    """Of each tree by its identity: its base, and where it lies in `depths` and `ancestors`."""
    found: dict[int, tuple[int, int, int, int]] = {}
    depths = ancestors = 0
    for tree in step.trees:
        size = len(tree.ancestors)
        found[id(tree)] = (int(step.contexts[tree.sequence]) - size, depths, ancestors, size)
        depths, ancestors = depths + size, ancestors + size * size
    return found

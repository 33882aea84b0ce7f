"""Cuts a varlen batch into *runs* of keys, each read once for the query rows that pass over it.

Knows positions and block tables as numpy arrays; no triton, no key, value or query.

The block tables of a batch form a forest: what begins with the same blocks shares them, groups of
it share more, and so on. A node of that forest is a range of keys that the same rows pass over, and
is read once for all of them (Hydragen, arXiv 2402.05099, for one level; here there are as many as
there are). What is left of a sequence is a run of its own. Long runs are split where there would
be too few programs to fill the device (FlashDecoding). A row with several runs gets a partial
result of each, and `merge.py` makes one of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ramet.kernels.layout import Step

Ints = NDArray[np.int64]

ITEM_FIELDS = 5  # numbers of an item: sequence, first key, key after the last, first entry, entries
ROW_FIELDS = 4  # numbers of a row: limit, position, first mask word, tokens of its tree
NARROW = 16  # lanes that the narrowest program has anyway: decoding rows mostly need no more
_ALIGNED = 16  # keys; a split run ends at a multiple of so many from its beginning


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the cutting goes by. No default has been measured on a GPU yet."""

    programs: int = 1  # programs that fill the device; runs are split up to about so many
    most_lanes: int = 64  # query rows × query heads of one key head that a program may hold
    min_saved: int = 512  # key reads that sharing a run must save before the run is shared
    partial_cost: int = 32  # key reads that a partial result (written, read, merged) is worth
    min_split: int = 256  # keys that a part of a run has at least, or nearly


@dataclass(frozen=True, slots=True)
class Runs:
    """The work of one attention call.

    An *item* is a range of keys of one block table with the rows that pass over it, its *entries*.
    """

    narrow: Ints  # [W, ITEM_FIELDS] items of up to NARROW lanes, longest first
    wide: Ints  # [W, ITEM_FIELDS] the others
    rows: Ints  # [N] query row of each entry
    slots: Ints  # [N] where its partial result goes; −1: it is the row's only one, and final
    merged: Ints  # [R] rows with several partial results
    starts: Ints  # [R + 1] row merged[i] has partial results starts[i] … starts[i + 1]
    lanes: int  # most entries × query heads of a key head that an item has


@dataclass(frozen=True, slots=True)
class _Members:
    """Up to so many query rows of one sequence each, before anything is shared."""

    sequence: Ints
    row: Ints
    rows: Ints
    common: Ints  # keys that all its rows see, window aside
    end: Ints  # keys that its last row sees


@dataclass(frozen=True, slots=True)
class _Shared:
    """A node of the forest: blocks `begin … end` of what all these members begin with."""

    members: Ints
    begin: int
    end: int


def runs_of(
    step: Step, block: int, kv_heads: int, groups: int, window: int | None, tuning: Tuning
) -> Runs:
    """Cut a step.

    Args:
        block: tokens of a block.
        groups: query heads of a key head.
        window: of the layers that this is for. Under a window nothing is shared.
    """
    most_rows = max(1, tuning.most_lanes // groups)
    members = _members(step, most_rows)
    begins = np.zeros(len(members.row), np.int64)
    shared: list[_Shared] = []
    if window is None:
        shared = list(_forest(step, members, block, most_rows, tuning))
        for node in shared:  # parents come first
            begins[node.members] = node.end * block
    else:
        begins = np.maximum(0, members.common - window + 1)
    items, rows = _joined(shared, members, begins, block, most_rows)
    items, rows = _split(items, rows, kv_heads, tuning)
    narrow = items[:, 4] * groups <= NARROW
    slots, merged, starts = _numbered(rows, step.tokens)
    lanes = int(items[:, 4].max(initial=1)) * groups
    return Runs(items[narrow], items[~narrow], rows, slots, merged, starts, lanes)


def row_facts(step: Step) -> Ints:
    """What each query row sees `[T, ROW_FIELDS]`.

    The keys below its limit; under a window w, of those the ones after position − w; and of the
    tree's tokens that follow the limit what the mask says (see `tree_masks`).
    """
    starts, contexts = step.query_starts.numpy(), step.contexts.numpy()
    counts = np.diff(starts)
    place = np.arange(step.tokens) + np.repeat(contexts - counts - starts[:-1], counts)
    facts = np.zeros((step.tokens, ROW_FIELDS), np.int64)
    facts[:, 0], facts[:, 1] = place + 1, place
    word = 0
    for tree in step.trees:
        size = len(tree.ancestors)
        last = int(starts[tree.sequence + 1])
        base = int(contexts[tree.sequence]) - size
        rows = facts[last - size : last]
        rows[:, 0], rows[:, 1], rows[:, 3] = base, base + tree.depths, size
        rows[:, 2] = word + np.arange(size) * _words(size)
        word += size * _words(size)
    return facts


def tree_masks(step: Step, window: int | None) -> Ints:
    """What tokens of trees see of each other, 32 to a word; each begins a word of its own."""
    parts: list[Ints] = [np.zeros(0, np.int64)]
    for tree in step.trees:
        size, seen = len(tree.ancestors), tree.ancestors
        if window is not None:
            seen = seen & (tree.depths > tree.depths[:, None] - window)
        padded = np.zeros((size, _words(size) * 32), np.bool_)
        padded[:, :size] = seen
        bits = np.packbits(padded, axis=1, bitorder="little")
        parts.append(bits.view(np.int32).reshape(-1).astype(np.int64))
    return np.concatenate(parts)


def _words(size: int) -> int:
    return -(-size // 32)


def _members(step: Step, most_rows: int) -> _Members:
    """Chains first, then trees, which may be the last rows of the same sequences."""
    starts, contexts = step.query_starts.numpy(), step.contexts.numpy()
    counts, number = np.diff(starts), len(contexts)
    tree = np.zeros(number, np.int64)
    for each in step.trees:
        tree[each.sequence] = len(each.ancestors)
    size = np.concatenate([counts - tree, tree])
    first = np.concatenate([starts[:-1], starts[1:] - tree])
    before = np.concatenate([contexts - counts, contexts - tree])
    pieces = -(-size // most_rows)
    of = np.repeat(np.arange(2 * number), pieces)
    offset = (np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * most_rows
    rows = np.minimum(most_rows, size[of] - offset)
    return _Members(
        sequence=of % max(number, 1),
        row=first[of] + offset,
        rows=rows,
        common=before[of] + np.where(of < number, offset, 0),
        end=before[of] + offset + rows,
    )


def _forest(
    step: Step, members: _Members, block: int, most_rows: int, tuning: Tuning
) -> Iterator[_Shared]:
    """Nodes that pay, each before those below it.

    Block tables are sorted, so that equal beginnings are neighbours; the longest common beginnings
    of neighbours then say all of the forest. Below a node that does not pay its blocks count to the
    nodes under it.
    """
    visible = members.common // block
    inside = np.flatnonzero((members.rows < most_rows) & (visible > 0))
    tables = step.block_tables.numpy()[members.sequence[inside]]
    inside, tables = _with_company(inside, tables)
    if not len(inside):
        return
    visible = visible[inside]
    width = int(visible.max())
    tables = np.where(np.arange(width) < visible[:, None], tables[:, :width], -1).astype(np.int32)
    order = np.argsort(tables.view(f"V{4 * width}").reshape(-1), kind="stable")
    inside, visible, tables = inside[order], visible[order], tables[order]
    equal = np.cumprod(tables[1:] == tables[:-1], axis=1).sum(axis=1)
    common = np.minimum(equal, np.minimum(visible[1:], visible[:-1]))
    rows = members.rows[inside]
    waiting = [(0, len(inside), 0)]
    while waiting:
        first, last, begin = waiting.pop()
        depths = common[first : last - 1]
        if (int(depths.max()) - begin) * block * (last - first - 1) < tuning.min_saved:
            continue
        depth = int(depths.min())
        keys, count = (depth - begin) * block, int(rows[first:last].sum())
        saved = keys * (last - first - -(-count // most_rows))
        if saved >= max(tuning.min_saved, tuning.partial_cost * count, 1):
            yield _Shared(inside[first:last], begin, depth)
            begin = depth
        edges = [first, *(first + 1 + np.flatnonzero(depths == depth)).tolist(), last]
        waiting += [(left, right, begin) for left, right in pairwise(edges) if right - left > 1]


def _with_company(inside: Ints, tables: Ints) -> tuple[Ints, Ints]:
    """Those whose first block another one has, too."""
    if not len(inside):
        return inside, tables
    _, where, counts = np.unique(tables[:, 0], return_inverse=True, return_counts=True)
    several = counts[where] > 1
    return inside[several], tables[several]


def _joined(
    shared: list[_Shared], members: _Members, begins: Ints, block: int, most_rows: int
) -> tuple[Ints, Ints]:
    """Items [W, ITEM_FIELDS] of nodes and of members, and the rows of their entries [N]."""
    own = np.stack(
        [
            members.sequence,
            begins,
            members.end,
            np.cumsum(members.rows) - members.rows,
            members.rows,
        ],
        axis=1,
    )
    rows = [_ranges(members.row, members.rows)]
    items = [own]
    done = len(rows[0])
    for node in shared:
        passing = _ranges(members.row[node.members], members.rows[node.members])
        first = np.arange(0, len(passing), most_rows)
        item = np.empty((len(first), ITEM_FIELDS), np.int64)
        item[:, 0] = members.sequence[node.members[0]]
        item[:, 1], item[:, 2] = node.begin * block, node.end * block
        item[:, 3], item[:, 4] = done + first, np.minimum(most_rows, len(passing) - first)
        items.append(item)
        rows.append(passing)
        done += len(passing)
    return np.concatenate(items), np.concatenate(rows)


def _ranges(first: Ints, count: Ints) -> Ints:
    """`first[0] … first[0] + count[0]`, then the next."""
    return np.arange(int(count.sum())) + np.repeat(first - (np.cumsum(count) - count), count)


def _split(items: Ints, rows: Ints, kv_heads: int, tuning: Tuning) -> tuple[Ints, Ints]:
    """No item over one and a half even shares of all the work, and the longest first."""
    begin, end, first, entries = items[:, 1:].T
    keys = end - begin
    share = max(-(-int(keys.sum()) * kv_heads // tuning.programs), tuning.min_split)
    parts = np.maximum(1, (2 * keys + share) // (2 * share))
    width = -(-keys // parts)
    width = -(-width // _ALIGNED) * _ALIGNED
    parts = -(-keys // width) if len(keys) else parts
    of = np.repeat(np.arange(len(items)), parts)
    at = begin[of] + (np.arange(len(of)) - np.repeat(np.cumsum(parts) - parts, parts)) * width[of]
    cut = items[of]
    cut[:, 1], cut[:, 2] = at, np.minimum(at + width[of], end[of])
    cut[:, 3] = np.cumsum(entries[of]) - entries[of]
    entry_rows = rows[_ranges(first[of], entries[of])]
    return cut[np.argsort(cut[:, 1] - cut[:, 2], kind="stable")], entry_rows


def _numbered(rows: Ints, tokens: int) -> tuple[Ints, Ints, Ints]:
    """Places for partial results, those of a row beside each other: slots, merged and starts."""
    counts = np.bincount(rows, minlength=tokens)
    several = np.flatnonzero(counts[rows] > 1)
    slots = np.full(len(rows), -1, np.int64)
    slots[several[np.argsort(rows[several], kind="stable")]] = np.arange(len(several))
    merged = np.flatnonzero(counts > 1)
    starts = np.concatenate([[0], np.cumsum(counts[merged])])
    return slots, merged, starts

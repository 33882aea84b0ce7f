"""Tiles cover a batch exactly, waste little, and share what pays."""

import random

import numpy as np
import pytest
import torch

from ramet.kernels import Step
from ramet.kernels.reference import seen
from ramet.kernels.tiles import (
    MAX_KEYS,
    MAX_ROWS,
    MIN_FILL,
    MIN_SAVED,
    Item,
    Tile,
    TileMaker,
    buckets,
    items,
    shared_runs,
)
from tests.kernels.steps import Case, world
from tests.kernels.test_cpu import random_case

SEEDS = range(60)


def step_of(seed: int) -> tuple[Case, Step]:
    case = random_case(seed, torch.float32)
    return case, world(case).step


def tiles_of(case: Case, step: Step, window: int | None = None) -> list[Tile]:
    return TileMaker(
        tables=step.block_tables.numpy(),
        block=case.block,
        kv_heads=case.kv_heads,
        stride=STRIDE,
        tokens=step.tokens,
        window=window,
        dtype=torch.float32,
    ).tiles(items(step))


STRIDE = 100_000


# -- items


@pytest.mark.parametrize("seed", SEEDS)
def test_items_are_the_batch_in_order(seed: int) -> None:
    _, step = step_of(seed)
    batch = items(step)
    assert [row for item in batch for row in range(item.row, item.row + item.rows)] == [
        *range(step.tokens)
    ]
    for item in batch:
        first, last = step.query_starts[item.sequence : item.sequence + 2].tolist()
        assert first <= item.row < item.row + item.rows <= last
        assert 1 <= item.rows <= MAX_ROWS
        after = last - item.row - item.rows
        assert item.end == int(step.contexts[item.sequence]) - after
        assert item.tree in step.trees or item.position == item.end - item.rows
    for tree in step.trees:
        last = int(step.query_starts[tree.sequence + 1])
        rows = [item for item in batch if item.tree is tree]
        assert sum(item.rows for item in rows) == len(tree.ancestors)
        assert rows[-1].row + rows[-1].rows == last
        assert {item.base for item in rows} == {
            int(step.contexts[tree.sequence]) - len(tree.ancestors)
        }


# -- buckets


def waste(bucket: list[Item], run: int) -> tuple[float, float]:
    """Padded over real, for rows and for keys."""
    rows, keys = [item.rows for item in bucket], [item.end - run for item in bucket]
    return max(rows) * len(bucket) / sum(rows), max(keys) * len(bucket) / sum(keys)


@pytest.mark.parametrize("run", [0, 50])
@pytest.mark.parametrize("seed", SEEDS)
def test_padding_is_bounded(seed: int, run: int) -> None:
    """Rows at most double; keys grow by no more than MIN_FILL says, but for the shortest."""
    rng = random.Random(seed)
    batch = []
    for index in range(rng.randrange(1, 200)):
        rows = rng.choice((1, 1, 1, rng.randrange(1, MAX_ROWS + 1)))
        batch.append(Item(index, index, rows, run + rows + rng.randrange(rng.choice((5, 5000)))))
    made = list(buckets(batch, run))
    assert sorted((item for bucket in made for item in bucket), key=lambda item: item.row) == batch
    for bucket in made:
        rows, keys = waste(bucket, run)
        assert rows < 2
        longest = max(item.end for item in bucket) - run
        shortest = min(item.end for item in bucket) - run
        assert shortest >= MIN_FILL * longest - 16
        assert keys <= max(1 / MIN_FILL, longest / max(1, longest * MIN_FILL - 16)) or longest < 30
        assert len(bucket) == 1 or len(bucket) * longest <= MAX_KEYS


def test_nothing_is_split_that_fits() -> None:
    batch = [Item(i, i, 1, 100) for i in range(MAX_KEYS // 100)]
    assert len(list(buckets(batch, 0))) == 1
    assert len(list(buckets([*batch, Item(99, 99, 1, 100)], 0))) == 2
    assert list(buckets([], 0)) == []


# -- tiles


@pytest.mark.parametrize("window", [None, 1, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_row_is_written_once(seed: int, window: int | None) -> None:
    case, step = step_of(seed)
    tiles = tiles_of(case, step, window)
    out = torch.cat([tile.out for tile in tiles])
    assert sorted(out[out < step.tokens].tolist()) == [*range(step.tokens)]
    assert out.max() <= step.tokens
    for tile in tiles:
        assert len(tile.out) == len(tile.query) == tile.items * tile.rows
        real = tile.out < step.tokens
        assert torch.equal(tile.out[real], tile.query[real])
        assert tile.query.max() < step.tokens, "padding reads a row of the batch"


@pytest.mark.parametrize("window", [None, 1, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_row_sees_exactly_its_context(seed: int, window: int | None) -> None:
    """Which slots a row's scores count, from the indices alone, in every head."""
    case, step = step_of(seed)
    expected = seen_by_rows(case, step, window)
    for tile in tiles_of(case, step, window):
        own = tile.own.view(case.kv_heads, tile.items, -1)
        shared = tile.shared.view(case.kv_heads, -1)
        for head in range(case.kv_heads):
            first = head * STRIDE
            for item, row in np.ndindex(tile.items, tile.rows):
                target = int(tile.out.view(tile.items, -1)[item, row])
                keys = own[head, item]
                if tile.mask is not None:
                    keys = keys[tile.mask[item, row, 0] == 0]
                slots = sorted([*(keys - first).tolist(), *(shared[head] - first).tolist()])
                if target < step.tokens:
                    assert slots == expected[target]
                else:
                    assert slots, "padding sees something, or its softmax would be NaN"


def seen_by_rows(case: Case, step: Step, window: int | None) -> list[list[int]]:
    rows: list[list[int]] = []
    trees = {tree.sequence: tree for tree in step.trees}
    for sequence, (context, count) in enumerate(case.lengths):
        table = step.block_tables[sequence].tolist()
        for left in range(count, 0, -1):
            path = seen(context, left, window, trees.get(sequence))
            rows.append(sorted(table[j // case.block] * case.block + j % case.block for j in path))
    return rows


@pytest.mark.parametrize("seed", range(10))
def test_no_mask_where_nothing_is_hidden(seed: int) -> None:
    """Sequences of one length that all decode: plain products."""
    case = Case([(77, 1)] * (seed + 1), block=8, shared=seed)
    (tile,) = tiles_of(case, world(case).step)
    assert tile.mask is None


# -- shared runs


@pytest.mark.parametrize("seed", range(200))
def test_shared_runs(seed: int) -> None:
    rng = random.Random(seed)
    block = rng.choice((1, 3, 16))
    tables, batch = forest(rng, block)
    groups = shared_runs(batch, tables, block)
    found = [item for group, _ in groups for item in group]
    assert sorted(found, key=lambda item: item.row) == batch, "everybody is in one group"
    assert sum(run == 0 for _, run in groups) <= 1
    for group, run in groups:
        heads = {tuple(tables[item.sequence, :run]) for item in group}
        assert len(heads) <= 1, "a group has its run in common"
        assert -1 not in next(iter(heads), ())
        assert all(run * block <= item.position for item in group), "it needs no mask"
        if run:
            assert run * block * (len(group) - 1) >= MIN_SAVED


def forest(rng: random.Random, block: int) -> tuple[np.ndarray, list[Item]]:
    """Random sequences that leave each other's tables at random depths."""
    size = 60
    tables = np.arange(40 * size).reshape(40, size)
    batch: list[Item] = []
    row = 0
    for sequence in range(rng.randrange(1, 40)):
        if sequence and rng.random() < 0.8:
            depth = rng.randrange(size)
            tables[sequence, :depth] = tables[rng.randrange(sequence), :depth]
        end = rng.randrange(1, size * block + 1)
        rows = rng.choice((1, rng.randrange(1, min(end, MAX_ROWS) + 1)))
        batch.append(Item(sequence, row, rows, end))
        row += rows
    for item in batch:
        tables[item.sequence, -(-item.end // block) :] = -1
    return tables, batch


@pytest.mark.parametrize("block", [1, 4, 16, 32])
def test_the_threshold(block: int) -> None:
    """Two sequences share a run from MIN_SAVED keys on; one block less is read twice."""
    enough = MIN_SAVED // block
    for blocks in (enough, enough - 1):
        tables = np.tile(np.arange(enough + 1), (2, 1))
        batch = [Item(i, i, 1, blocks * block + 1) for i in range(2)]
        ((group, run),) = shared_runs(batch, tables, block)
        assert group == batch
        assert run == (blocks if blocks == enough else 0)


def test_a_run_ends_before_the_first_query_of_every_member() -> None:
    """Rows that lie inside the common blocks are not behind them."""
    tables = np.tile(np.arange(100), (3, 1))
    batch = [Item(0, 0, 1, 1600), Item(1, 1, 33, 1600), Item(2, 34, 1, 600)]
    ((group, run), (alone, none)) = shared_runs(batch, tables, 16)
    assert (group, run) == (batch[:2], (1600 - 33) // 16)
    assert (alone, none) == ([batch[2]], 0)


def test_one_sequence_alone_shares_nothing() -> None:
    """Not even with itself: the items of a long prompt are one sequence's."""
    tables = np.arange(1000).reshape(1, 1000)
    assert shared_runs([Item(0, 0, 1, 9000)], tables, 16) == [([Item(0, 0, 1, 9000)], 0)]
    assert shared_runs([], tables, 16) == []

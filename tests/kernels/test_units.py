"""Units cover a batch exactly, and what they share is shared."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from ramet.kernels import Step, Tree
from ramet.kernels.units import ITEM_ROWS, MIN_SAVED, UNIT_ROWS, Cut, cut, runs
from tests.kernels.steps import Case, ancestors_of, world

GROUPS = 2


def forest(seed: int) -> tuple[Step, int]:
    """Sequences that leave each other's tables at random depths."""
    rng = random.Random(seed)
    block, size = rng.choice((1, 3, 16)), 60
    tables = np.arange(70 * size).reshape(70, size)[: rng.randrange(1, 70)]
    lengths: list[tuple[int, int]] = []
    for sequence in range(len(tables)):
        if sequence and rng.random() < 0.8:
            depth = rng.randrange(size)
            tables[sequence, :depth] = tables[rng.randrange(sequence), :depth]
        end = rng.randrange(1, size * block + 1)
        lengths.append((end, rng.choice((1, rng.randrange(1, min(end, 300) + 1)))))
    for sequence, (end, _) in enumerate(lengths):
        tables[sequence, -(-end // block) :] = -1
    return step_of(tables, lengths), block


def step_of(tables: np.ndarray, lengths: list[tuple[int, int]]) -> Step:
    counts = [count for _, count in lengths]
    return Step(
        query_starts=torch.tensor([0, *np.cumsum(counts)]),
        contexts=torch.tensor([end for end, _ in lengths]),
        block_tables=torch.from_numpy(tables),
        slots=torch.full((sum(counts),), -1),
    )


def seen_by_items(made: Cut, step: Step, block: int) -> list[list[tuple[int, int]]]:
    """(block, offset) of the keys that pass by each item, in passes and then its own."""
    rows = made.items.tolist()
    found: list[list[tuple[int, int]]] = [[] for _ in rows]

    def go_by(item: int, guide: int, begin: int, end: int) -> None:
        table = step.block_tables[rows[guide][0]].tolist()
        found[item] += [(table[place // block], place % block) for place in range(begin, end)]

    for first, last, first_pass, last_pass in made.units.tolist():
        for left, right, begin, end in made.passes[first_pass:last_pass].tolist():
            assert first <= left < right <= last
            for item in range(left, right):
                go_by(item, left, begin, end)
        for item in range(first, last):
            go_by(item, item, rows[item][4], rows[item][3])
    return found


@pytest.mark.parametrize("least", [1, 100, MIN_SAVED])
@pytest.mark.parametrize("seed", range(40))
def test_every_item_meets_exactly_its_context(seed: int, least: int) -> None:
    step, block = forest(seed)
    made = cut(step, block, GROUPS, share=True, least_saved=least)
    covered = [row for first, last in made.units[:, :2].tolist() for row in range(first, last)]
    assert sorted(covered) == [*range(len(made.items))], "everybody is in one unit"
    queries: list[int] = []
    for item, met in zip(made.items.tolist(), seen_by_items(made, step, block), strict=True):
        sequence, row, rows, end, _, base, *_ = item
        table = step.block_tables[sequence].tolist()
        assert met == [(table[place // block], place % block) for place in range(end)]
        assert base == -1
        assert rows * GROUPS <= ITEM_ROWS
        queries += range(row, row + rows)
    assert sorted(queries) == [*range(step.tokens)]
    for left, right, begin, end in made.passes.tolist():
        members = made.items[left:right]
        assert end <= int((members[:, 3] - members[:, 2]).min()), "it needs no mask"
        assert (right - left - 1) * (end - begin) >= least
    for first, last, *_ in made.units.tolist():
        assert last - first == 1 or made.items[first:last, 2].sum() * GROUPS <= 2 * UNIT_ROWS


def test_runs_within_runs() -> None:
    """2 programs on one text, each with 3 branches of 2 more: all three levels are passes."""
    common = np.array([0, 9, 7, 9, 7, 9, 4, 9, 7, 9, 7, 9])
    assert list(runs(common, 16, 1)) == [
        (0, 12, 0, 4),
        *[(0, 6, 4, 7), (0, 2, 7, 9), (2, 4, 7, 9), (4, 6, 7, 9)],
        *[(6, 12, 4, 7), (6, 8, 7, 9), (8, 10, 7, 9), (10, 12, 7, 9)],
    ]
    assert list(runs(common, 16, 48)) == [(0, 12, 0, 4), (0, 6, 4, 7), (6, 12, 4, 7)]
    assert list(runs(common, 16, 1000)) == []


@pytest.mark.parametrize("block", [1, 4, 16, 32])
def test_the_threshold(block: int) -> None:
    """Two sequences share a run from MIN_SAVED keys on; one block less is read twice."""
    enough = -(-MIN_SAVED // block)
    for blocks in (enough, enough - 1):
        tables = np.tile(np.arange(enough + 1), (2, 1))
        made = cut(step_of(tables, [(blocks * block + 1, 1)] * 2), block, GROUPS, share=True)
        assert made.passes.tolist() == ([[0, 2, 0, blocks * block]] if blocks == enough else [])
        assert len(made.units) == (1 if blocks == enough else 2)


def test_layers_with_a_window_share_nothing() -> None:
    tables = np.tile(np.arange(100), (4, 1))
    made = cut(step_of(tables, [(1600, 1)] * 4), 16, GROUPS, share=False)
    assert len(made.units) == 4
    assert not len(made.passes)


def test_large_families_are_cut_evenly() -> None:
    tables = np.tile(np.arange(100), (65, 1))
    made = cut(step_of(tables, [(1600, 1)] * 65), 16, GROUPS, share=True)
    sizes = (made.units[:, 1] - made.units[:, 0]).tolist()
    assert sum(sizes) == 65
    assert len(sizes) == -(-65 * GROUPS // UNIT_ROWS)
    assert max(sizes) - min(sizes) <= 1


def test_the_longest_come_first() -> None:
    tables = np.arange(400).reshape(4, 100)
    step = step_of(tables, [(10, 1), (1600, 1), (500, 40), (700, 1)])
    made = cut(step, 16, GROUPS, share=True)
    assert made.items[made.units[:, 0], 3].tolist() == [500, 1600, 700, 10]


def test_trees_name_their_place() -> None:
    made = world(Case([(700, 5), (90, 7), (80, 1)]))
    trees = [Tree(0, ancestors_of([-1, 0, 0])), Tree(1, ancestors_of([-1, 0]))]
    step = replace(made.step, trees=trees)
    rows = cut(step, 16, 1, share=True).items[:, [0, 2, 3, 5, 6, 7, 8]].tolist()
    assert {tuple(row) for row in rows} == {
        (0, 2, 697, -1, 0, 0, 0),
        (0, 3, 700, 697, 0, 0, 3),
        (1, 5, 88, -1, 0, 0, 0),
        (1, 2, 90, 88, 3, 9, 2),
        (2, 1, 80, -1, 0, 0, 0),
    }

"""What a step is cut into: a row passes every key that it sees once, with others who share it."""

import random
from collections import Counter
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
import torch

from ramet.kernels import Step, Tree
from ramet.kernels.gpu.runs import NARROW, Runs, Tuning, row_facts, runs_of, tree_masks
from ramet.kernels.reference import seen
from tests.kernels.gpu.worlds import SHARE_ALL, fresh_seed, made_of, noted, random_trial
from tests.kernels.steps import ancestors_of


def step_of(tables: list[list[int]], lengths: list[tuple[int, int]]) -> Step:
    width = max(map(len, tables))
    return Step(
        query_starts=torch.tensor([0, *np.cumsum([count for _, count in lengths])]),
        contexts=torch.tensor([context for context, _ in lengths]),
        block_tables=torch.tensor([table + [-1] * (width - len(table)) for table in tables]),
        slots=torch.full((sum(count for _, count in lengths),), -1),
    )


def forest(step: Step, block: int = 4, tuning: Tuning = SHARE_ALL) -> set[tuple[int, int, tuple]]:
    """First key, key after the last, and rows of every item."""
    runs = runs_of(step, block, 1, 1, None, tuning)
    return {
        (begin, end, tuple(sorted(runs.rows[first : first + count].tolist())))
        for _, begin, end, first, count in items(runs)
    }


def items(runs: Runs) -> list[list[int]]:
    return np.concatenate([runs.narrow, runs.wide]).tolist()


@pytest.mark.parametrize("again", range(40))
def test_every_key_passes_by_each_row_once(again: int) -> None:
    """Through the row's own table or one that is alike so far, and no unused entry is named."""
    trial = random_trial(fresh_seed(), torch.float32, large=True)
    tuning = replace(trial.tuning, most_lanes=random.choice((1, 16, 64)))
    with noted(replace(trial, tuning=tuning)):
        made = made_of(trial)
        cut = runs_of(made.step, trial.case.block, 2, trial.case.groups, trial.window, tuning)
        check_cover(made.step, trial.case.block, trial.case.groups, trial.window, cut)


def check_cover(step: Step, block: int, groups: int, window: int | None, cut: Runs) -> None:
    tables = step.block_tables.numpy()
    starts, contexts = step.query_starts.tolist(), step.contexts.tolist()
    owner = np.repeat(np.arange(len(contexts)), np.diff(starts))
    passed: list[Counter[int]] = [Counter() for _ in owner]
    parts: list[list[int]] = [[] for _ in owner]
    for sequence, begin, end, first, count in items(cut):
        assert begin < end
        keys = np.arange(begin, end)
        for entry in range(first, first + count):
            row = int(cut.rows[entry])
            own = tables[owner[row], keys // block]
            assert (own == tables[sequence, keys // block]).all(), "the same blocks"
            assert (own >= 0).all()
            passed[row].update(keys.tolist())
            parts[row].append(int(cut.slots[entry]))
    trees = {tree.sequence: tree for tree in step.trees}
    for row, sequence in enumerate(owner):
        left = starts[sequence + 1] - row
        sees = seen(contexts[sequence], left, window, trees.get(int(sequence)))
        assert all(passed[row][key] == 1 for key in sees)
        assert max(passed[row].values()) == 1
    for index, row in enumerate(cut.merged.tolist()):
        assert sorted(parts[row]) == list(range(cut.starts[index], cut.starts[index + 1]))
        assert len(parts[row]) > 1
        parts[row] = []
    assert all(mine in ([], [-1]) for mine in parts)
    assert (cut.narrow[:, 4] * groups <= NARROW).all()
    assert (cut.wide[:, 4] * groups > NARROW).all()
    assert max((item[4] for item in items(cut)), default=1) * groups <= max(cut.lanes, groups)


def test_levels() -> None:
    """Four go on from one block, three of them from a second, two from a third."""
    tables = [[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 5], [0, 6], [7, 1]]
    lengths = [(15, 1), (14, 1), (10, 1), (6, 1), (7, 1)]
    assert forest(step_of(tables, lengths)) == {
        (0, 4, (0, 1, 2, 3)),
        (4, 8, (0, 1, 2)),
        (8, 12, (0, 1)),
        (12, 15, (0,)),
        (12, 14, (1,)),
        (8, 10, (2,)),
        (4, 6, (3,)),
        (0, 7, (4,)),
    }


def test_a_level_that_does_not_pay_is_left_to_the_levels_below() -> None:
    """One block for three rows saves too little, but belongs to what two of them share."""
    tables = [[0, *range(1, 20)], [0, *range(1, 19), 30], [0, 40]]
    lengths = [(80, 1), (79, 1), (7, 1)]
    found = forest(step_of(tables, lengths), tuning=Tuning(min_saved=32, partial_cost=4))
    assert found == {
        (0, 76, (0, 1)),
        (76, 80, (0,)),
        (76, 79, (1,)),
        (0, 7, (2,)),
    }


@pytest.mark.parametrize(
    ("keys", "count", "shares"),
    [(512, 2, True), (508, 2, False), (64, 64, True), (16, 64, False), (512, 1, False)],
)
def test_what_pays(keys: int, count: int, shares: bool) -> None:
    """With the thresholds everybody gets: all that is saved, and what is saved by row."""
    blocks = list(range(keys // 4))
    tables = [[*blocks, 1000 + row] for row in range(count)]
    found = forest(step_of(tables, [(keys + 2, 1)] * count), tuning=Tuning())
    assert ((0, keys, tuple(range(count))) in found) == shares
    assert len(found) == (count + shares)


def test_a_run_ends_before_the_first_query_of_all_who_share_it() -> None:
    tables = [[0, 1, 2, 3], [0, 1, 2, 4]]
    found = forest(step_of(tables, [(13, 6), (14, 1)]))
    assert (0, 4, (0, 1, 2, 3, 4, 5, 6)) in found
    assert (4, 13, (0, 1, 2, 3, 4, 5)) in found


def test_rows_of_a_shared_run_fill_several_programs() -> None:
    tables = [[0, 1 + row] for row in range(40)]
    found = forest(step_of(tables, [(6, 1)] * 40), tuning=replace(SHARE_ALL, most_lanes=16))
    shared = sorted(rows for begin, end, rows in found if (begin, end) == (0, 4))
    assert [len(rows) for rows in shared] == [16, 16, 8]
    assert len(found) == 3 + 40


def test_full_programs_share_nothing() -> None:
    """Rows of a long prompt fill programs of their own, each of which reads the prefix."""
    tables = [list(range(40)), [*range(8), *range(50, 82)]]
    step = step_of(tables, [(160, 128), (160, 128)])
    cut = runs_of(step, 4, 1, 1, None, replace(SHARE_ALL, most_lanes=64))
    assert [item[1:3] for item in items(cut)] == [[0, 160], [0, 160], [0, 96], [0, 96]]
    assert not len(cut.merged)


@pytest.mark.parametrize(("programs", "parts"), [(1, 1), (2, 2), (8, 8), (64, 16), (1000, 16)])
def test_long_runs_are_split_to_fill_the_device(programs: int, parts: int) -> None:
    """Into even parts, none shorter than is worth it."""
    step = step_of([list(range(256))], [(4096, 1)])
    cut = runs_of(step, 16, 1, 1, None, Tuning(programs=programs))
    lengths = [end - begin for _, begin, end, _, _ in items(cut)]
    assert len(lengths) == parts
    assert max(lengths) - min(lengths) <= 16
    assert len(cut.merged) == (parts > 1)


def test_heads_count_as_programs() -> None:
    step = step_of([list(range(256))], [(4096, 1)])
    assert len(items(runs_of(step, 16, 8, 1, None, Tuning(programs=16)))) == 2


@pytest.mark.parametrize("programs", [1, 256, 270, 340])
def test_enough_sequences_are_not_split(programs: int) -> None:
    """And nearly enough neither: a merge would cost more than the last wave."""
    step = step_of([[row * 64 + i for i in range(64)] for row in range(32)], [(1024, 1)] * 32)
    assert len(items(runs_of(step, 16, 8, 4, None, Tuning(programs=programs)))) == 32


def test_a_shared_run_is_split_beside_short_rests() -> None:
    """It would be the last to end."""
    shared = list(range(512))
    tables = [[*shared, *range(1000 + 16 * row, 1016 + 16 * row)] for row in range(64)]
    step = step_of(tables, [(8192 + 250, 1)] * 64)
    cut = runs_of(step, 16, 8, 4, None, Tuning(programs=264))
    lengths = [end - begin for _, begin, end, _, _ in items(cut)]
    assert max(lengths) < 1700
    assert sum(lengths) == 4 * 8192 + 64 * 250


def test_windows_read_what_they_see() -> None:
    step = step_of([list(range(30))] * 2, [(100, 1), (100, 30)])
    cut = runs_of(step, 4, 1, 1, 10, SHARE_ALL)
    assert sorted(item[1:3] for item in items(cut)) == [[61, 100], [90, 100]]


def test_rows_and_masks_say_what_is_seen() -> None:
    """Bit by bit, as the kernel reads them."""
    rng = random.Random(0)
    for window in (None, 1, 4):
        parents = [rng.randrange(-1, i) for i in range(40)]
        step = step_of([list(range(20)), list(range(20, 40))], [(70, 45), (30, 3)])
        trees = [Tree(0, ancestors_of(parents)), Tree(1, ancestors_of([-1, -1]))]
        step = replace(step, trees=trees)
        facts, masks = row_facts(step), tree_masks(step, window)
        starts, contexts = step.query_starts.tolist(), step.contexts.tolist()
        for row, (limit, position, word, size) in enumerate(facts.tolist()):
            sequence = int(row >= starts[1])
            found = set(range(limit))
            if window is not None:
                found = {key for key in found if key > position - window}
            bits = [int(masks[word + i // 32]) >> (i % 32) & 1 for i in range(size)]
            found |= {limit + i for i, bit in enumerate(bits) if bit}
            left = starts[sequence + 1] - row
            assert found == {*seen(contexts[sequence], left, window, trees[sequence])}


def test_many_sequences_are_cut_quickly() -> None:
    """A chain in which each leaves the others a block later, and as many that share one prefix."""
    chain = [[*range(row), 10_000 + row] for row in range(1, 501)]
    crowd = [[20_000 + i for i in range(300)] + [30_000 + row] for row in range(500)]
    lengths = [(16 * len(table) - 1, 1) for table in chain + crowd]
    step = step_of(chain + crowd, lengths)
    began = perf_counter()
    cut = runs_of(step, 16, 8, 4, None, Tuning(programs=528))
    assert perf_counter() - began < 2.0, "some 0.1 s on an idle core"
    assert sum(item[2] - item[1] for item in items(cut)) < 0.2 * sum(c for c, _ in lengths)

"""bench/scaling.py makes the steps it says it measures."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ramet.cache import BlockPool, BlockTable

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
bench: Any = import_module("scaling")


@pytest.fixture
def books() -> Any:
    return bench.Books(sequences=16, blocks=256, context=100)


def test_the_pool_is_full_and_each_step_evicts_a_block_for_one_of_sixteen(books: Any) -> None:
    assert books.pool.stats().free == 0
    before = books.pool.stats().evicted
    for _ in range(16):
        books.step()
    # A block for each sequence.
    assert books.pool.stats().evicted - before == 16


def test_every_sequence_gains_a_token_in_a_step(books: Any) -> None:
    tasks = books.crowd.scheduler.running
    before = [len(task.sequence.tokens) for task in tasks]
    books.step()
    assert [len(task.sequence.tokens) for task in tasks] == [each + 1 for each in before]
    assert [task.sequence.table.length for task in tasks] == before


def test_who_comes_in_another_s_place_runs_and_finds_its_prompt(books: Any) -> None:
    books.turn_over()
    books.step()
    last = books.crowd.scheduler.running[-1]
    assert len(books.crowd.scheduler.running) == 16
    assert last.usage.prompt_reused > last.prompt - bench.BLOCK


def test_a_row_tells_each_part(books: Any) -> None:
    row = books.measure(4)
    assert row["sequences"] == len(books.crowd.scheduler.running) == 4
    assert row["us_per_sequence"].keys() == {"schedule", "pack", "commit"}
    assert all(time > 0 for time in row["us_per_sequence"].values())


def test_a_decode_step_is_undone(books: Any) -> None:
    scheduler = books.crowd.scheduler
    before = [(task.cursor, list(task.sequence.table.blocks)) for task in scheduler.running]
    assert bench.step_of(scheduler, books.runner) > 0
    after = [(task.cursor, list(task.sequence.table.blocks)) for task in scheduler.running]
    assert after == before


@pytest.mark.parametrize("shared", [False, True])
def test_a_decode_step_has_the_context_and_shares_all_but_the_last_tokens(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    runner = bench.Runner(bench.Nothing(), 64, bench.BLOCK)
    monkeypatch.setattr(runner, "run", seen.append)
    bench.decode(runner, batch=3, context=128, shared=shared, repeats=1)
    tables = [entry.task.sequence.table for entry in seen[0].entries]
    assert [(entry.end, entry.count) for entry in seen[0].entries] == [(128, 1)] * 3
    common = set.intersection(*(set(table.blocks) for table in tables))
    assert len(common) == ((128 - bench.OWN) // bench.BLOCK if shared else 0)


def test_leaving_gives_the_blocks_back() -> None:
    pool = BlockPool(8, bench.BLOCK, seed=0)
    crowd = bench.Crowd(pool, 1)
    tokens = list(range(33))
    crowd.add(tokens, bench.filled(BlockTable(pool), tokens[:-1]))
    assert crowd.leave(0) == tokens
    assert pool.available == 8
    assert not crowd.scheduler.running

"""What a pool shows of itself, why it says a prompt is not there, and what it forgets when told."""

import random

import pytest

from ramet.cache import BlockPool, BlockTable, Nearest, explain, forget, spans
from ramet.cache.block import common


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(16, 4, seed=0)


def cached(pool: BlockPool, tokens: list[int], maker: str = "", scope: bytes = b"") -> BlockTable:
    table = BlockTable(pool, scope, maker)
    table.adopt(tokens)
    fresh = tokens[table.length :]
    table.reserve(len(fresh))
    table.commit(fresh)
    return table


def test_spans_are_the_tree_with_what_was_made_found_and_held(pool: BlockPool) -> None:
    held = cached(pool, [1] * 8 + [2] * 8, "first")
    cached(pool, [1] * 8 + [3] * 4, "second").release()
    cached(pool, [9] * 4, "other", b"tenant").release()
    found = spans(pool)
    assert found.left_out == 0
    root, *below = found.spans
    assert (root.above, root.start, root.tokens, root.blocks) == (None, 0, 8, 2)
    assert root.head == [1] * 8
    assert (root.held, root.found, root.maker) == (2, 8, "first")
    assert [(span.above, span.start, span.maker) for span in below] == [
        (0, 8, "first"),
        (0, 8, "second"),
    ]
    assert [(span.head, span.held, span.found) for span in below] == [
        ([2] * 8, 2, 0),
        ([3] * 4, 0, 0),
    ]
    assert [span.maker for span in spans(pool, b"tenant").spans] == ["other"]
    held.release()
    assert [span.held for span in spans(pool).spans] == [0, 0, 0]


def test_only_so_many_spans_are_shown_those_near_the_start_first(pool: BlockPool) -> None:
    for branch in range(3):
        cached(pool, [1] * 4 + [branch + 2] * 4).release()
    found = spans(pool, most=2)
    assert [span.start for span in found.spans] == [0, 4]
    assert found.left_out == 2


def test_a_long_span_is_a_count_with_a_head(pool: BlockPool) -> None:
    cached(pool, [*range(60)]).release()
    (span,) = spans(pool, head=6).spans
    assert (span.tokens, span.head, span.blocks) == (60, [0, 1, 2, 3, 4, 5], 15)


def test_only_so_many_blocks_are_visited_and_the_rest_is_counted(pool: BlockPool) -> None:
    cached(pool, [1] * 20).release()
    cached(pool, [2] * 8).release()
    assert spans(pool, blocks=7).left_out == 0
    assert [(s.head, s.blocks) for s in spans(pool, blocks=6).spans] == [
        ([1] * 20, 5),
        ([2] * 4, 1),
    ]
    assert spans(pool, blocks=6).left_out == 1
    cut = spans(pool, blocks=3)
    assert [span.blocks for span in cut.spans] == [3]
    assert cut.left_out == 2


def test_explain_finds_the_nearest_of_very_many_without_comparing_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, draw = BlockPool(400, 4), random.Random(7)
    texts = [[draw.randrange(4) for _ in range(4)] for _ in range(200)]
    for text in texts:
        cached(pool, text).release()
    compared = 0

    def counting(one: list[int], two: list[int]) -> int:
        nonlocal compared
        compared += 1
        return common(one, two)

    monkeypatch.setattr("ramet.cache.window.common", counting)
    for text in ([0, 1, 2, 9], [3, 3, 9, 9], [9, 9, 9, 9], [2]):
        said = explain(pool, text)
        run = max(common(text, other) for other in texts)
        ways = {tuple(other[run:]) for other in texts if common(text, other) == run}
        assert said.found == run
        assert {tuple(each.tokens) for each in said.nearest} <= ways
        assert len(said.nearest) == min(5, len(ways))
    assert compared <= 4 * 10


def test_explain_says_where_a_prompt_leaves_what_is_cached(pool: BlockPool) -> None:
    cached(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9], "greeting")
    said = explain(pool, [1, 2, 3, 4, 5, 6, 0, 0, 0, 0])
    assert (said.found, said.wanted, said.evicted) == (6, [0, 0], False)
    assert said.nearest == [Nearest([7, 8], "greeting", whole=True)]
    said = explain(pool, [1, 2, 3, 4, 5, 6, 7, 8, 0])
    assert (said.found, said.nearest) == (8, [Nearest([9], "", whole=False)])
    assert explain(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9]).found == 9
    assert explain(pool, [4, 4]).nearest == [Nearest([1, 2, 3, 4], "greeting", whole=True)]
    nowhere = explain(pool, [1, 2], b"tenant")
    assert (nowhere.found, nowhere.nearest) == (0, [])


def test_explain_finds_what_a_sequence_would_find_and_counts_nothing() -> None:
    draw = random.Random()
    seed = draw.getrandbits(32)
    draw.seed(seed)
    pool = BlockPool(64, 3)
    tables: list[BlockTable] = []
    for _ in range(300):
        tokens = [draw.randrange(2) for _ in range(draw.randrange(1, 12))]
        before = pool.stats()
        said = explain(pool, tokens)
        assert pool.stats() == before
        asking = BlockTable(pool)
        assert said.found == asking.adopt(tokens), f"seed {seed}: {tokens}"
        asking.release()
        tables.append(cached(pool, tokens))
        if len(tables) > 6:
            tables.pop(draw.randrange(len(tables))).release()
        pool.audit(tables)


def test_explain_remembers_what_was_evicted(pool: BlockPool) -> None:
    cached(pool, [1] * 8).release()
    cached(pool, [2] * 4 * 16).release()
    assert explain(pool, [1] * 8).evicted
    assert not explain(pool, [3] * 8).evicted


@pytest.mark.parametrize(
    ("prefix", "gone"),
    [([], 4), ([1], 4), ([1] * 4, 4), ([1] * 4 + [2], 1), ([7], 0), ([1] * 4 + [7], 0)],
)
def test_forget_makes_what_begins_so_unfindable(
    pool: BlockPool, prefix: list[int], gone: int
) -> None:
    tables = [cached(pool, [1] * 4 + [2] * 4), cached(pool, [1] * 4 + [3] * 8)]
    tables.pop(0).release()
    cached(pool, [1] * 4, scope=b"tenant").release()
    before = pool.stats()
    assert forget(pool, prefix) == gone
    pool.audit(tables)
    assert pool.stats().held == before.held
    assert explain(pool, [1] * 4 + [2] * 4).found == (8 if gone == 0 else 4 if gone == 1 else 0)
    assert explain(pool, [1] * 4, b"tenant").found == 4
    for table in tables:
        table.release()
    pool.audit([])
    assert pool.available == pool.num_blocks


def test_forget_takes_what_leads_nowhere_else(pool: BlockPool) -> None:
    cached(pool, [1] * 4 + [2] * 4 + [3] * 4).release()
    cached(pool, [1] * 4 + [4] * 4).release()
    assert forget(pool, [1] * 4 + [2] * 4 + [3]) == 2
    assert explain(pool, [1] * 4 + [2] * 4).found == 4
    assert forget(pool, [1] * 4 + [4] * 4) == 2
    assert pool.stats().cached == 0


def test_part_of_a_block_counts_as_what_was_found_of_it(pool: BlockPool) -> None:
    cached(pool, [1] * 8).release()
    cached(pool, [1] * 6 + [2]).release()
    assert [span.found for span in spans(pool).spans] == [4, 2]


def test_who_holds_what_was_forgotten_goes_on(pool: BlockPool) -> None:
    table = cached(pool, [1] * 8)
    forget(pool)
    table.reserve(6)
    table.commit([2] * 6)
    pool.audit([table])
    assert table.length == 14

"""Expected uses: what they keep, when they are matched, and that they are hints and no more."""

import pytest
from cache_world import CutChain

from ramet.cache import BlockPool, BlockTable, OutOfBlocks
from ramet.cache.eviction import SLACK, EvictionOrder


def grown(pool: BlockPool, tokens: list[int], scope: bytes = b"") -> BlockTable:
    table = BlockTable(pool, scope)
    table.adopt(tokens)
    table.reserve(len(tokens) - table.length)
    table.commit(tokens[table.length :])
    return table


def cached(pool: BlockPool, *texts: list[int]) -> list[int]:
    """Compute these texts and give them up, in this order; the last block of each."""
    ids: list[int] = []
    for text in texts:
        table = grown(pool, text)
        ids.append(table.blocks[-1])
        table.release()
    return ids


A, B, C, D = [1, 1], [2, 2], [3, 3], [4, 4]


def test_what_nobody_expects_goes_first_then_the_farthest_use() -> None:
    pool = BlockPool(4, 2)
    a, b, c, d = cached(pool, A, B, C, D)
    pool.expect(A, 1)
    pool.expect(B, 7)
    assert list(pool.cached) == [c, d, b, a]
    assert [pool.take().id for _ in range(4)] == [c, d, b, a]


def test_among_equal_uses_the_one_given_up_first_goes() -> None:
    pool = BlockPool(4, 2)
    a, b, c, d = cached(pool, A, B, C, D)
    for text in (C, A, B, D):
        pool.expect(text, 3)
    assert list(pool.cached) == [a, b, c, d]


def test_the_nearest_of_several_uses_counts() -> None:
    pool = BlockPool(4, 2)
    a, b = cached(pool, A, B)
    near, far = pool.expect(A, 2), pool.expect(A, 9)
    pool.expect(B, 5)
    assert list(pool.cached) == [b, a]
    near.drop()
    assert list(pool.cached) == [a, b]
    far.drop()
    assert list(pool.cached) == [a, b]
    assert (far.path, near.path) == ([], [])


def test_a_dropped_expectation_leaves_a_block_where_its_age_puts_it() -> None:
    pool = BlockPool(4, 2)
    a, b, c, d = cached(pool, A, B, C, D)
    expected = [pool.expect(text, 1) for text in (B, D, A)]
    for each in expected:
        each.drop()
        each.drop()
    assert list(pool.cached) == [a, b, c, d]
    assert [pool.take().id for _ in range(4)] == [a, b, c, d]


def test_a_text_keeps_what_it_begins_with_and_not_what_else_grew_there() -> None:
    pool = BlockPool(8, 2)
    cached(pool, [*A, *B, *C], [*A, *D])
    wanted = pool.expect([*A, *B, 9], 4)
    tail, last = pool.cached.pop(), pool.cached.pop()
    assert [pool.blocks[id].tokens for id in (tail, last)] == [C, D]
    assert [pool.blocks[id].tokens for id in pool.cached] == [B, A]
    assert [place.block and place.block.tokens for place in wanted.path] == [A, B]


def test_a_use_may_be_expected_before_there_is_anything() -> None:
    pool = BlockPool(4, 2)
    pool.expect([*A, *B], 3)
    a, b = cached(pool, A, [*A, *B])
    (c,) = cached(pool, C)
    assert list(pool.cached) == [c, b, a]


def test_what_was_evicted_and_computed_again_is_expected_again() -> None:
    pool = BlockPool(2, 2)
    pool.expect([*A, *B], 3)
    cached(pool, [*A, *B])
    cached(pool, [*C, *D])
    assert BlockTable(pool).adopt([*A, *B]) == 0
    cached(pool, A)
    (c,) = cached(pool, C)
    assert next(iter(pool.cached)) == c
    pool.audit([])


def test_another_tenants_text_is_another_text() -> None:
    pool = BlockPool(4, 2)
    pool.expect(A, 1, b"other")
    a, b = cached(pool, A, B)
    assert list(pool.cached) == [a, b]
    pool.expect(A, 1, b"")
    assert list(pool.cached) == [b, a]


def test_only_full_blocks_are_expected() -> None:
    pool = BlockPool(4, 2)
    assert pool.expect([1], 1).path == []
    assert pool.expect([], 1).path == []
    assert len(pool.expect([1, 1, 1], 1).path) == 1


def test_an_expectation_pins_nothing() -> None:
    pool = BlockPool(2, 2)
    cached(pool, [*A, *B])
    pool.expect([*A, *B], 1)
    assert pool.available == 2
    table = grown(pool, [*C, *D])
    with pytest.raises(OutOfBlocks):
        BlockTable(pool).reserve(1)
    assert pool.stats().evicted == 2
    pool.audit([table])


def test_clear_and_sharing_go_before_the_plan() -> None:
    pool = BlockPool(2, 2)
    cached(pool, A)
    expected = pool.expect(A, 1)
    assert pool.clear() == 1
    assert BlockTable(pool).adopt(A) == 0
    expected.drop()
    assert BlockPool(2, 2, sharing=False).expect(A, 1).path == []


def test_places_are_bounded_and_given_back() -> None:
    pool = BlockPool(2, 2)
    assert pool.plan.limit == 8
    long = pool.expect([token // 2 for token in range(100)], 1)
    assert len(long.path) == pool.plan.count == 8
    assert pool.expect(C, 1).path == []
    assert len(pool.expect([0, 0, 1, 1], 2).path) == 2, "known places cost nothing"
    pool.audit([])
    long.drop()
    assert pool.plan.count == 2
    assert len(pool.expect(C, 1).path) == 1


def test_a_collision_neither_gives_nor_takes_an_expectation() -> None:
    """All keys are equal: a block of other tokens, or after another parent, is another text."""
    pool = BlockPool(8, 2)
    pool.chain = CutChain(0)
    pool.expect([*A, *B], 1)
    first = grown(pool, A)
    assert pool.plan.next_use(pool.blocks[first.blocks[0]]) == 1
    other = grown(pool, C)  # displaces A under the one key there is
    assert pool.plan.next_use(pool.blocks[other.blocks[0]]) is None
    assert pool.plan.next_use(pool.blocks[first.blocks[0]]) is None, "it is found no more"
    first.reserve(2)
    first.commit(B)
    assert pool.plan.next_use(pool.blocks[first.blocks[1]]) is None, "its parent is not found"
    pool.audit([first, other])


def test_what_hangs_under_a_displaced_block_is_expected_no_more() -> None:
    pool = BlockPool(8, 2)
    pool.expect([*A, *B, *C], 1)
    table = grown(pool, [*A, *B, *C])
    pool._displace(pool.blocks[table.blocks[0]])
    assert [pool.plan.next_use(pool.blocks[id]) for id in table.blocks] == [None] * 3
    pool.audit([table])


def test_and_goes_first_though_it_is_cached() -> None:
    pool = BlockPool(8, 2)
    pool.expect([*A, *B], 1)
    pool.expect(C, 2)
    table = grown(pool, [*A, *B])
    hidden = table.blocks[1]
    table.truncate(2)
    (c,) = cached(pool, C)
    assert list(pool.cached) == [c, hidden]
    pool._displace(pool.blocks[table.blocks[0]])
    assert list(pool.cached) == [hidden, c]
    pool.audit([table])


def test_stale_turns_do_not_pile_up() -> None:
    order = EvictionOrder()
    for id in range(10):
        order.add(id, None)
    for use in range(1_000):
        order.move(use % 10, use)
    assert len(order._heap) <= 2 * 10 + SLACK + 1
    assert list(order) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert [order.pop() for _ in range(10)] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert len(order) == 0


def test_a_block_that_is_no_longer_cached_does_not_move() -> None:
    order = EvictionOrder()
    order.add(1, 5)
    order.add(2, None)
    assert order.discard(1)
    assert not order.discard(1)
    order.move(1, 3)
    order.move(7, 3)
    assert (list(order), 1 in order, 2 in order, len(order)) == ([2], False, True, 1)

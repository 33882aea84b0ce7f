"""Hashes that collide: 8 bits, 2 bits, none. Other keys and values must never come back."""

import random

import pytest
from cache_world import CutChain
from tables import grown

from ramet.cache import BlockPool, BlockTable


def cut_pool(bits: int, num_blocks: int = 16) -> BlockPool:
    pool = BlockPool(num_blocks, 2)
    pool.chain = CutChain(bits)
    return pool


def test_other_tokens_under_the_same_key_are_no_hit() -> None:
    pool = cut_pool(0)
    table, other = grown(pool, [1, 2]), BlockTable(pool)
    assert other.adopt([3, 4]) == 0
    assert other.adopt([1, 2]) == 2
    pool.audit([table, other])


def test_the_same_tokens_after_another_parent_are_no_hit() -> None:
    pool = cut_pool(0)
    grown(pool, [1, 2, 7, 7])
    other = grown(pool, [3, 4])
    assert other.adopt([3, 4, 7, 7]) == 2


def test_the_same_text_of_another_tenant_is_no_hit() -> None:
    pool = cut_pool(0)
    grown(pool, [1, 2, 3], scope=b"one")
    other = BlockTable(pool, b"two")
    assert other.adopt([1, 2, 3]) == 0
    assert not other.awaits([1, 2, 3, 4])


def test_a_newer_block_replaces_an_older_one() -> None:
    pool = cut_pool(0)
    older = grown(pool, [1, 2])
    newer = grown(pool, [3, 4])
    assert pool.stats().displaced == 1
    assert BlockTable(pool).adopt([1, 2]) == 0
    older.release()
    assert 0 in pool.free
    pool.audit([newer])


def test_a_cached_older_block_becomes_free_at_once() -> None:
    pool = cut_pool(0)
    grown(pool, [1, 2]).release()
    assert list(pool.cached) == [0]
    table = grown(pool, [3, 4])
    assert (list(pool.cached), 0 in pool.free) == ([], True)
    pool.audit([table])


def test_a_table_keeps_what_it_holds_and_can_go_on() -> None:
    """Its block can be found no more, and neither can anything that it builds on it."""
    pool = cut_pool(0)
    table = grown(pool, [1, 2])
    newer = grown(pool, [3, 4])
    table.reserve(3)
    table.commit([5, 6, 7])
    assert (table.blocks, table.length) == ([0, 2, 3], 5)
    assert BlockTable(pool).adopt([1, 2, 5, 6]) == 0
    pool.audit([table, newer])
    table.truncate(1)
    assert table.adopt([1, 2]) == 2
    table.truncate(1)
    assert [copy.source for copy in table.reserve(1)] == [0]
    table.commit([2])
    pool.audit([table, newer])


def test_the_child_of_a_displaced_block_is_not_found_under_its_successor() -> None:
    """The same text in the same place, but another block with another serial stands before it."""
    pool = cut_pool(0)
    first = grown(pool, [1, 2])
    grown(pool, [9, 9])
    first.reserve(2)
    first.commit([3, 4])
    again = grown(pool, [1, 2])
    assert again.blocks != first.blocks[:1]
    assert again.adopt([1, 2, 3, 4]) == 2


@pytest.mark.parametrize("bits", [8, 4, 0])
def test_what_is_found_is_the_text_itself(bits: int) -> None:
    """Random texts in a pool that is too small, read back through the recorded tokens. Even with no
    bits at all the one block that is published last is found by its own text."""
    pool, draw, hits = cut_pool(bits, 24), random.Random(bits), 0
    for _ in range(400):
        text = draw.choices((0, 1), k=draw.randint(1, 9))
        table = BlockTable(pool, draw.choice((b"one", b"two")))
        hits += table.adopt(text)
        table.reserve(len(text) - table.length)
        table.commit(text[table.length :])
        read = [token for id in table.blocks for token in pool.blocks[id].tokens]
        assert read[: len(text)] == text
        pool.audit([table])
        table.release()
    assert hits > 0
    assert pool.stats().displaced > 0

"""The pool by itself: which block is taken, what becomes of one that is given up, wrong calls."""

import pytest

from ramet.cache import BlockPool, BlockTable, CacheMisuse, OutOfBlocks


def published(pool: BlockPool, *texts: list[int]) -> list[int]:
    """Cached blocks, one of each text, given up in this order."""
    ids: list[int] = []
    for text in texts:
        table = BlockTable(pool)
        table.reserve(len(text))
        table.commit(text)
        ids += table.blocks
        table.release()
    return ids


def test_blocks_are_taken_from_zero_and_the_last_freed_first() -> None:
    pool = BlockPool(4, 2)
    blocks = [pool.take() for _ in range(3)]
    assert [block.id for block in blocks] == [0, 1, 2]
    pool.drop(blocks[0])
    pool.drop(blocks[2])
    assert pool.free == [3, 0, 2]
    assert [pool.take().id for _ in range(3)] == [2, 0, 3]


def test_free_blocks_go_before_cached_ones_and_the_oldest_of_those_first() -> None:
    pool = BlockPool(4, 2)
    assert published(pool, [1, 1], [2, 2]) == [0, 1]
    assert pool.available == 4
    assert [pool.take().id for _ in range(4)] == [2, 3, 0, 1]
    stats = pool.stats()
    assert (stats.free, stats.held, stats.cached, stats.evicted) == (0, 4, 0, 2)
    assert not pool.index.keys


def test_an_exhausted_pool_says_so() -> None:
    pool = BlockPool(1, 2)
    pool.take()
    with pytest.raises(OutOfBlocks) as caught:
        pool.take()
    assert (caught.value.needed, caught.value.available) == (1, 0)


def test_sharing_a_cached_block_makes_it_held_and_renews_its_turn() -> None:
    pool = BlockPool(4, 2)
    first, second = published(pool, [1, 1], [2, 2])
    pool.share(pool.blocks[first])
    assert list(pool.cached) == [second]
    pool.drop(pool.blocks[first])
    assert list(pool.cached) == [second, first]


def test_a_pin_keeps_a_block_that_nobody_owns() -> None:
    pool = BlockPool(1, 2)
    block = pool.take()
    pool.pin(block, 1)
    assert (block.owners, block.pins, pool.available) == (0, [1], 0)
    pool.share(block)
    pool.drop(block)
    assert pool.available == 0
    pool.unpin(block, 1)
    assert pool.free == [0]


def test_a_pin_can_become_an_ownership_again() -> None:
    pool = BlockPool(1, 2)
    block = pool.take()
    pool.pin(block, 1)
    pool.reclaim(block, 1)
    assert (block.owners, block.pins) == (1, [])


def test_one_of_two_pins_ends() -> None:
    pool = BlockPool(1, 4)
    block = pool.take()
    pool.share(block)
    pool.pin(block, 1)
    pool.pin(block, 3)
    pool.unpin(block, 3)
    assert (block.owners, block.pins, pool.available) == (0, [1], 0)


def test_clear_drops_what_nobody_holds() -> None:
    pool = BlockPool(4, 2)
    published(pool, [1, 1], [2, 2])
    held = BlockTable(pool)
    held.adopt([1, 1])
    assert pool.clear() == 1
    assert pool.clear() == 0
    assert BlockTable(pool).adopt([2, 2]) == 0
    assert BlockTable(pool).adopt([1, 1]) == 2


@pytest.mark.parametrize("call", ["share", "drop", "pin", "unpin", "reclaim"])
def test_what_cannot_be_given_up_or_shared_is_refused(call: str) -> None:
    pool = BlockPool(2, 2)
    published(pool, [1, 1])
    free = pool.blocks[1]
    arguments = (free, 1) if "pin" in call or call == "reclaim" else (free,)
    before = pool.stats()
    with pytest.raises(CacheMisuse, match="block 1"):
        getattr(pool, call)(*arguments)
    assert pool.stats() == before
    pool.audit([])


def test_blocks_hold_sixteen_tokens_unless_told_otherwise() -> None:
    assert BlockPool(1).block_size == 16


@pytest.mark.parametrize(("num_blocks", "block_size"), [(0, 1), (1, 0), (-1, 16)])
def test_an_impossible_pool_is_refused(num_blocks: int, block_size: int) -> None:
    with pytest.raises(CacheMisuse):
        BlockPool(num_blocks, block_size)


def test_statistics_add_up() -> None:
    pool = BlockPool(8, 2)
    assert pool.stats().hit_rate == 0
    published(pool, [1, 1], [3, 3])
    table = BlockTable(pool)
    table.adopt([1, 1, 2, 2])
    stats = pool.stats()
    assert (stats.free, stats.held, stats.cached) == (6, 1, 1)
    assert (stats.queries, stats.hits, stats.hit_rate) == (4, 2, 0.5)
    assert (stats.published, stats.merged, stats.displaced, stats.copies) == (2, 0, 0, 0)

"""One table at a time and several together: exact blocks, exact copies, exact free order.

Blocks hold 4 tokens here, and are handed out from 0.
"""

from collections.abc import Callable

import pytest
from tables import grow, grown

from ramet.cache import BlockPool, BlockTable, CacheMisuse, Copy, OutOfBlocks


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(12, 4, seed=0)


# A step


def test_blocks_are_taken_as_they_are_needed(pool: BlockPool) -> None:
    table = BlockTable(pool)
    assert table.blocks_needed(9) == 3
    assert table.reserve(9) == []
    assert (table.blocks, table.length) == ([0, 1, 2], 0)
    table.commit([1] * 9)
    assert (table.blocks, table.length) == ([0, 1, 2], 9)
    assert [table.blocks_needed(count) for count in (0, 1, 3, 4, 7, 8)] == [0, 0, 0, 1, 1, 2]


def test_nothing_reserved_can_be_found_before_it_is_committed(pool: BlockPool) -> None:
    table = BlockTable(pool)
    table.reserve(6)
    assert BlockTable(pool).adopt([1] * 6) == 0
    table.commit([1] * 6)
    assert BlockTable(pool).adopt([1] * 6) == 6


def test_a_rolled_back_step_leaves_no_trace(pool: BlockPool) -> None:
    table = grown(pool, [1, 2, 3])
    free = pool.free.copy()
    table.reserve(9)
    table.rollback()
    assert (table.blocks, table.length, pool.free) == ([0], 3, free)
    assert BlockTable(pool).adopt([1, 2, 3, 4]) == 3
    table.rollback()
    assert table.blocks == [0]


def test_reserved_blocks_that_were_not_used_go_back(pool: BlockPool) -> None:
    table = BlockTable(pool)
    free = pool.free.copy()
    table.reserve(12)
    table.commit([1, 2])
    assert (table.blocks, table.length) == ([0], 2)
    assert pool.free == free[:-1]
    table.reserve(8)
    table.commit([])
    assert (table.blocks, table.length) == ([0], 2)


def test_an_empty_step(pool: BlockPool) -> None:
    table = grown(pool, [1, 2])
    other = table.fork()
    assert (table.blocks_needed(0), table.blocks_needed(1)) == (0, 1)
    assert table.reserve(0) == []
    table.commit([])
    assert table.blocks == other.blocks


def test_out_of_blocks_changes_nothing(pool: BlockPool) -> None:
    table = grown(pool, [1, 2])
    other = table.fork()
    with pytest.raises(OutOfBlocks) as caught:
        table.reserve(4 * 11 + 2)
    assert (caught.value.needed, caught.value.available) == (12, 11)
    assert (table.blocks, table.reserved, pool.available) == ([0], None, 11)
    pool.audit([table, other])


# Publishing and finding


def test_full_blocks_are_found_whole(pool: BlockPool) -> None:
    grown(pool, [1, 2, 3, 4, 5, 6, 7, 8])
    table = BlockTable(pool)
    assert table.adopt([1, 2, 3, 4, 5, 6, 7, 8]) == 8
    assert table.blocks == [0, 1]


@pytest.mark.parametrize("tokens", [[1, 2, 3, 4, 5, 6, 9, 9, 9], (1, 2, 3, 4, 5, 6)])
def test_a_full_block_is_found_in_part(pool: BlockPool, tokens: list[int]) -> None:
    grown(pool, [1, 2, 3, 4, 5, 6, 7, 8])
    table = BlockTable(pool)
    assert table.adopt(tokens) == 6
    assert table.blocks == [0, 1]
    assert table.reserve(1) == [Copy(1, 2, 2)]


def test_an_open_block_of_a_live_table_is_found(pool: BlockPool) -> None:
    writer = grown(pool, [1, 2, 3, 4, 5, 6])
    reader = BlockTable(pool)
    assert reader.adopt([1, 2, 3, 4, 5, 9]) == 5
    assert grow(writer, [7]) == [Copy(1, 2, 2)]
    assert grow(reader, [9]) == []
    assert (writer.blocks, reader.blocks) == ([0, 2], [0, 1])


def test_a_partly_filled_block_goes_with_its_last_owner(pool: BlockPool) -> None:
    table = grown(pool, [1, 2, 3, 4, 5, 6])
    table.release()
    assert BlockTable(pool).adopt([1, 2, 3, 4, 5, 6]) == 4
    assert pool.free[-1] == 1


def test_the_longest_beginning_wins(pool: BlockPool) -> None:
    grown(pool, [1, 2])
    grown(pool, [1, 2, 3, 4])
    live = grown(pool, [1, 2, 5])
    table = BlockTable(pool)
    assert table.adopt([1, 2, 5, 6, 7]) == 3
    assert table.blocks == live.blocks


def test_a_tail_is_swapped_for_a_block_that_holds_more(pool: BlockPool) -> None:
    table = grown(pool, [1, 2])
    longer = grown(pool, [1, 2, 3])
    assert table.adopt([1, 2, 3, 4]) == 3
    assert table.blocks == longer.blocks == [1]
    grow(longer, [9])
    whole = grown(pool, [1, 2, 3, 4, 5])
    assert table.adopt([1, 2, 3, 4, 5]) == 5
    assert table.blocks == whole.blocks
    pool.audit([table, longer, whole])


def test_the_own_tail_is_kept_when_it_is_as_good(pool: BlockPool) -> None:
    table = grown(pool, [1, 2, 3])
    grown(pool, [1, 2, 3])
    table.truncate(1)
    assert table.adopt([1, 2, 3]) == 3
    assert table.blocks == [0]
    assert table.adopt([1, 2, 3]) == 3


def test_asking_for_less_than_an_earlier_question_gives_less(pool: BlockPool) -> None:
    table = BlockTable(pool)
    table.adopt([1, 2, 3, 4, 5, 6, 7, 8])
    grown(pool, [1, 2, 3, 4, 5, 6, 7, 8])
    assert table.adopt([1, 2, 3]) == 3
    assert table.adopt([1, 2, 3, 4, 5]) == 5


def test_a_block_that_fills_up_with_known_content_is_merged(pool: BlockPool) -> None:
    first, second = grown(pool, [1, 2, 3]), grown(pool, [1, 2, 3])
    grow(first, [4, 5])
    grow(second, [4, 5])
    assert (first.blocks, second.blocks) == ([0, 2], [0, 3])
    assert (pool.free[-1], pool.stats().merged) == (1, 1)
    pool.audit([first, second])


def test_merging_keeps_the_block_for_others_who_own_it(pool: BlockPool) -> None:
    known, writer = grown(pool, [1, 2, 3, 4]), grown(pool, [1, 2])
    reader = writer.fork()
    reader.truncate(1)
    reader.reserve(1)
    grow(writer, [3, 4])
    reader.rollback()
    assert writer.blocks == known.blocks
    assert (reader.blocks, reader.length) == ([1], 1)
    pool.audit([known, writer, reader])


def test_keys_go_on_through_a_merge(pool: BlockPool) -> None:
    tables = [BlockTable(pool) for _ in range(2)]
    for table in tables:
        table.reserve(9)
    for table in tables:
        table.commit([1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert [table.blocks for table in tables] == [[0, 1, 2], [0, 1, 5]]
    pool.audit(tables)


def test_scopes_never_meet(pool: BlockPool) -> None:
    grown(pool, [1, 2, 3, 4, 5, 6], scope=b"one")
    assert BlockTable(pool, b"two").adopt([1, 2, 3, 4, 5, 6]) == 0
    assert BlockTable(pool, b"").adopt([1, 2, 3, 4, 5, 6]) == 0
    assert BlockTable(pool, b"one").adopt([1, 2, 3, 4, 5, 6]) == 6


def test_without_sharing_only_forks_share() -> None:
    pool = BlockPool(8, 4, sharing=False)
    table = grown(pool, [1, 2, 3, 4, 5])
    table.announce([1, 2, 3, 4, 5, 6, 7, 8])
    other = BlockTable(pool)
    assert not other.awaits([1, 2, 3, 4])
    assert other.adopt([1, 2, 3, 4]) == 0
    child = table.fork()
    assert child.blocks == table.blocks
    assert (grow(child, [6]), grow(table, [7])) == ([Copy(1, 2, 1)], [])
    child.truncate(3)
    assert grow(child, [4]) == [Copy(0, 2, 3)]
    child.truncate(3)
    assert grow(child, [8]) == []
    pool.audit([table, child, other])
    for each in (table, child):
        each.release()
    assert sorted(pool.free) == list(range(8))


# Copy on write


@pytest.mark.parametrize("writers", [1, 2, 3, 5])
@pytest.mark.parametrize("together", [True, False])
def test_writers_that_part_cost_one_copy_less_than_they_are(writers: int, together: bool) -> None:
    pool = BlockPool(16, 4)
    tables = [grown(pool, [1, 2])]
    tables += [tables[0].fork() for _ in range(writers - 1)]
    if together:
        copies = [table.reserve(1) for table in tables]
        for token, table in enumerate(tables):
            table.commit([token])
    else:
        copies = [grow(table, [token]) for token, table in enumerate(tables)]
    assert copies == [[Copy(0, id, 2)] for id in range(1, writers)] + [[]]
    assert pool.stats().copies == writers - 1
    pool.audit(tables)


def test_each_writer_into_a_published_block_copies_it(pool: BlockPool) -> None:
    grown(pool, [1, 2, 3, 4]).release()
    tables = [BlockTable(pool) for _ in range(2)]
    for table in tables:
        table.adopt([1, 2])
    assert [table.blocks_needed(1) for table in tables] == [1, 1]
    assert [table.reserve(1) for table in tables] == [[Copy(0, 1, 2)], [Copy(0, 2, 2)]]
    assert pool.available == 9
    for table in tables:
        table.commit([7])
    assert list(pool.cached) == [0]


def test_a_source_stays_until_its_copy_ran(pool: BlockPool) -> None:
    first = grown(pool, [1, 2])
    second = first.fork()
    first.reserve(1)
    second.release()
    assert 0 not in pool.free
    pool.audit([first])
    first.commit([3])
    assert pool.free[-1] == 0


def test_rolling_back_a_copy_returns_the_source(pool: BlockPool) -> None:
    first = grown(pool, [1, 2])
    second = first.fork()
    free = pool.free.copy()
    assert first.reserve(6) == [Copy(0, 1, 2)]
    assert second.reserve(1) == []
    first.rollback()
    assert (first.blocks, pool.free) == ([0], free)
    second.commit([3])
    pool.audit([first, second])
    assert first.reserve(1) == [Copy(0, 1, 2)]


def test_an_empty_commit_keeps_the_copy(pool: BlockPool) -> None:
    first = grown(pool, [1, 2])
    second = first.fork()
    first.reserve(1)
    first.commit([])
    assert (first.blocks, second.blocks) == ([1], [0])
    pool.audit([first, second])


def test_tokens_past_the_end_are_forgotten_at_reserve(pool: BlockPool) -> None:
    """They are about to be overwritten: whoever adopts now must not get them."""
    table = grown(pool, [1, 2, 3])
    table.truncate(1)
    assert BlockTable(pool).adopt([1, 2, 3]) == 3
    table.truncate(0)
    table = grown(pool, [5, 6, 7])
    table.truncate(1)
    table.reserve(1)
    reader = BlockTable(pool)
    assert reader.adopt([5, 6, 7]) == 1
    table.rollback()
    reader.release()
    assert BlockTable(pool).adopt([5, 6, 7]) == 1


def test_what_a_copy_in_flight_reads_is_not_overwritten(pool: BlockPool) -> None:
    """The other owner has less of the block, and would write over what the copy still needs."""
    longer = grown(pool, [1, 2, 3])
    shorter = longer.fork()
    shorter.truncate(1)
    assert longer.reserve(1) == [Copy(0, 1, 3)]
    assert shorter.blocks_needed(1) == 1
    assert shorter.reserve(1) == [Copy(0, 2, 1)]
    longer.rollback()
    shorter.commit([9])
    pool.audit([longer, shorter])
    assert (longer.blocks, longer.length) == ([0], 3)


def test_equal_readers_of_a_longer_record_still_cost_one_copy(pool: BlockPool) -> None:
    writer = grown(pool, [1, 2, 3])
    readers = [BlockTable(pool) for _ in range(2)]
    for reader in readers:
        reader.adopt([1, 2])
    writer.release()
    assert [reader.reserve(1) for reader in readers] == [[Copy(0, 1, 2)], []]
    pool.audit([*readers])


# Sharing and giving up


def test_a_fork_shares_every_block(pool: BlockPool) -> None:
    table = grown(pool, [1, 2, 3, 4, 5])
    child = table.fork()
    assert child.blocks == table.blocks
    assert child.blocks is not table.blocks
    assert pool.available == 10
    table.release()
    assert grow(child, [6]) == []


def test_truncate_gives_up_the_last_block_first(pool: BlockPool) -> None:
    table = grown(pool, list(range(12)))
    table.truncate(5)
    assert (table.blocks, table.length, list(pool.cached)) == ([0, 1], 5, [2])
    table.truncate(5)
    table.truncate(4)
    assert (table.blocks, list(pool.cached)) == ([0], [2, 1])
    assert grow(table, [9]) == []


def test_truncating_into_a_published_block_leads_to_a_copy(pool: BlockPool) -> None:
    table = grown(pool, [1, 2, 3, 4])
    table.truncate(3)
    assert grow(table, [4]) == [Copy(0, 1, 3)]
    assert (table.blocks, pool.stats().merged) == ([0], 1)


def test_release_is_idempotent_and_leaves_an_empty_table(pool: BlockPool) -> None:
    table = grown(pool, list(range(8)))
    table.release()
    table.release()
    assert (table.blocks, table.length, list(pool.cached)) == ([], 0, [1, 0])
    assert table.adopt(list(range(8))) == 8


def test_release_in_the_middle_of_a_step(pool: BlockPool) -> None:
    first = grown(pool, [1, 2])
    second = first.fork()
    second.reserve(5)
    second.release()
    first.release()
    pool.audit([first, second])
    assert sorted(pool.free) == list(range(12))


# Wrong calls


@pytest.mark.parametrize(
    "call",
    [
        lambda table: table.reserve(1),
        lambda table: table.commit([1, 2]),
        lambda table: table.fork(),
        lambda table: table.truncate(0),
        lambda table: table.adopt([1, 2, 3]),
    ],
    ids=["reserve", "commit too much", "fork", "truncate", "adopt"],
)
def test_what_a_step_forbids(pool: BlockPool, call: Callable[[BlockTable], object]) -> None:
    table = grown(pool, [1, 2])
    table.reserve(1)
    with pytest.raises(CacheMisuse):
        call(table)
    table.commit([3])
    assert table.length == 3
    pool.audit([table])


@pytest.mark.parametrize(
    "call",
    [
        lambda table: table.reserve(-1),
        lambda table: table.commit([]),
        lambda table: table.commit([1]),
        lambda table: table.truncate(7),
        lambda table: table.truncate(-1),
        lambda table: table.adopt([1, 2, 3, 4]),
        lambda table: table.adopt([1, 2, 3, 4, 6, 6]),
        lambda table: table.awaits([1, 2, 3, 4]),
        lambda table: table.announce([1, 2, 3, 4, 5]),
    ],
)
def test_what_is_always_wrong(pool: BlockPool, call: Callable[[BlockTable], object]) -> None:
    table = grown(pool, [1, 2, 3, 4, 5, 5])
    with pytest.raises(CacheMisuse):
        call(table)
    assert (table.blocks, table.length) == ([0, 1], 6)
    pool.audit([table])


def test_a_sequence_shorter_than_its_table_is_refused_at_a_block_edge_too(pool: BlockPool) -> None:
    table = grown(pool, [1, 2, 3, 4])
    with pytest.raises(CacheMisuse):
        table.adopt([1, 2])

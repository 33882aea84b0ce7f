"""What one table is going to compute, another waits for.

Blocks hold 4 tokens here, and are handed out from 0.
"""

from collections.abc import Callable

import pytest
from tables import grow, grown

from ramet.cache import BlockPool, BlockTable


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(12, 4, seed=0)


def test_a_later_table_waits_for_what_is_announced(pool: BlockPool) -> None:
    first, second = BlockTable(pool), BlockTable(pool)
    prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    first.announce(prompt)
    assert second.awaits(prompt)
    assert not first.awaits(prompt)
    assert not second.awaits([1, 2, 3])
    assert not second.awaits([1, 2, 3, 5])
    assert not BlockTable(pool, b"tenant").awaits(prompt)
    grow(first, prompt[:4])
    assert second.awaits(prompt[:4]) is False
    assert second.adopt(prompt) == 4
    assert second.awaits(prompt)
    grow(first, prompt[4:])
    assert not second.awaits(prompt)
    assert second.adopt(prompt) == 9
    assert not pool.index.announced


def test_of_two_announcers_only_the_later_waits(pool: BlockPool) -> None:
    first, second = BlockTable(pool), BlockTable(pool)
    for table in (first, second):
        table.announce([1, 2, 3, 4])
    assert (first.awaits([1, 2, 3, 4]), second.awaits([1, 2, 3, 4])) == (False, True)
    first.release()
    assert not second.awaits([1, 2, 3, 4])


@pytest.mark.parametrize(
    "end",
    [
        lambda table: table.release(),
        lambda table: table.truncate(0),
        lambda table: grow(table, [9, 9, 9, 9]),
        lambda table: table.announce([9, 9, 9, 9]),
    ],
    ids=["release", "truncate", "other tokens", "another announcement"],
)
def test_announcements_are_withdrawn(pool: BlockPool, end: Callable[[BlockTable], None]) -> None:
    table, other = BlockTable(pool), BlockTable(pool)
    table.announce([1, 2, 3, 4, 5, 6, 7, 8])
    end(table)
    assert not other.awaits([1, 2, 3, 4])
    pool.audit([table, other])


def test_asking_about_other_tokens_keeps_the_announcement(pool: BlockPool) -> None:
    table, other = BlockTable(pool), BlockTable(pool)
    table.announce([1, 2, 3, 4])
    assert not table.awaits([5, 6, 7, 8])
    assert table.adopt([5, 6, 7, 8]) == 0
    table.announce([1, 2, 3, 4, 5, 6, 7, 8])
    assert other.awaits([1, 2, 3, 4])


def test_adopting_another_path_withdraws_the_announcement(pool: BlockPool) -> None:
    grown(pool, [5, 6, 7, 8])
    table, other = BlockTable(pool), BlockTable(pool)
    table.announce([1, 2, 3, 4])
    assert table.adopt([5, 6, 7, 8]) == 4
    assert not other.awaits([1, 2, 3, 4])


def test_adopting_what_was_announced_fulfils_it(pool: BlockPool) -> None:
    table, other = BlockTable(pool), BlockTable(pool)
    table.announce([1, 2, 3, 4, 5, 6, 7, 8])
    grown(pool, [1, 2, 3, 4])
    assert table.adopt([1, 2, 3, 4]) == 4
    assert not other.awaits([1, 2, 3, 4])
    other.adopt([1, 2, 3, 4])
    assert other.awaits([1, 2, 3, 4, 5, 6, 7, 8])


def test_keys_are_right_after_leaving_the_announced_path(pool: BlockPool) -> None:
    """The second block is as announced, the first is not: its announced key would be wrong."""
    table = BlockTable(pool)
    table.announce([1, 2, 3, 4, 5, 6, 7, 8])
    grow(table, [9, 9, 9, 9, 5, 6, 7, 8])
    pool.audit([table])


def test_a_route_is_forgotten_at_its_end(pool: BlockPool) -> None:
    table = BlockTable(pool)
    table.announce([1, 2, 3, 4, 5, 6, 7, 8, 9])
    grow(table, [1, 2, 3, 4])
    assert table.route is not None
    grow(table, [5, 6, 7, 8])
    assert table.route is None


def test_announced_keys_are_not_hashed_again(
    pool: BlockPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[list[int]] = []
    extend = type(pool.chain).extend

    def counted(self: object, parent: bytes, tokens: list[int]) -> bytes:
        hashed.append(tokens)
        return extend(pool.chain, parent, tokens)

    monkeypatch.setattr(type(pool.chain), "extend", counted)
    table, prompt = BlockTable(pool), [1, 2, 3, 4, 5, 6, 7, 8]
    table.adopt(prompt)
    table.awaits(prompt)
    table.announce(prompt)
    for token in prompt:
        grow(table, [token])
    assert hashed == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert pool.stats().published == 2

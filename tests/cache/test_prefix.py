"""The index by itself: finding, children, routes and announcements."""

import random

import pytest

from ramet.cache.block import Block, common
from ramet.cache.hashing import KeyChain
from ramet.cache.prefix import PrefixIndex, Route

CHAIN = KeyChain(0, b"")
LETTERS: tuple[int, ...] = (0, 1, 2)


def sealed(index: PrefixIndex, id: int, tokens: list[int], parent: int | bytes = b"") -> Block:
    block = Block(id)
    block.tokens = tokens
    index.seal(block, repr((parent, tokens)).encode(), parent)
    return block


def opened(index: PrefixIndex, id: int, tokens: list[int], parent: int | bytes = b"") -> Block:
    block = Block(id)
    index.expose(block, parent)
    block.tokens = tokens
    return block


def route(tokens: list[int], first: int = 0, scope: bytes = b"") -> Route:
    parent = CHAIN.root(scope)
    for number in range(first):
        parent = CHAIN.extend(parent, tokens[2 * number : 2 * number + 2])
    return Route(CHAIN, scope, 2, first, parent, tokens)


@pytest.mark.parametrize(
    ("left", "right", "length"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2), ([2], [1], 0)],
)
def test_common(left: list[int], right: list[int], length: int) -> None:
    assert common(left, right) == common(right, left) == length


def test_find_compares_tokens_and_parent() -> None:
    index = PrefixIndex()
    block = sealed(index, 0, [1, 2])
    assert index.find(block.key, b"", [1, 2]) is block
    assert index.find(block.key, b"", [1, 3]) is None
    assert index.find(block.key, b"tenant", [1, 2]) is None
    assert index.find(block.key, 0, [1, 2]) is None
    assert index.find(b"other", b"", [1, 2]) is None


def test_serials_are_never_given_twice() -> None:
    index = PrefixIndex()
    block = sealed(index, 0, [1, 2])
    index.unseal(block)
    block.blank()
    index.seal(block, b"key", b"")
    assert block.serial == 2


def test_an_unsealed_block_keeps_its_serial_and_is_not_held() -> None:
    index = PrefixIndex()
    block = sealed(index, 0, [1, 2])
    index.unseal(block)
    assert block.serial == 1
    assert not index.holds(block)
    assert not index.sealed


def test_longest_is_the_longest_of_all_children() -> None:
    """Against trying every child, on random ones."""
    draw = random.Random(1)
    for _ in range(200):
        index = PrefixIndex()
        texts = {tuple(draw.choices(LETTERS, k=4)) for _ in range(draw.randrange(12))}
        blocks = [sealed(index, id, list(text)) for id, text in enumerate(sorted(texts))]
        blocks += [
            opened(index, 100 + id, draw.choices(LETTERS, k=draw.randint(1, 3)))
            for id in range(draw.randrange(4))
        ]
        query = draw.choices(LETTERS, k=draw.randrange(5))
        run, block = index.longest(b"", query)
        assert run == max((common(block.tokens, query) for block in blocks), default=0)
        assert (block is None) == (run == 0)
        assert block is None or common(block.tokens, query) == run


def test_among_equals_the_sealed_child_then_the_first_exposed() -> None:
    index = PrefixIndex()
    first = opened(index, 1, [1, 2])
    opened(index, 2, [1, 2])
    assert index.longest(b"", [1, 2, 3]) == (2, first)
    whole = sealed(index, 3, [1, 2, 9])
    assert index.longest(b"", [1, 2, 3]) == (2, whole)
    index.unseal(whole)
    index.close(first)
    run, block = index.longest(b"", [1, 2, 3])
    assert (run, block and block.id) == (2, 2)


def test_children_of_another_parent_are_not_seen() -> None:
    index = PrefixIndex()
    sealed(index, 0, [1, 2], parent=7)
    opened(index, 1, [1], parent=b"tenant")
    assert index.longest(b"", [1, 2]) == (0, None)


def test_a_route_hashes_each_block_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[list[int]] = []
    extend = KeyChain.extend

    def counted(self: KeyChain, parent: bytes, tokens: list[int]) -> bytes:
        hashed.append(tokens)
        return extend(self, parent, tokens)

    path = route([1, 2, 3, 4, 5])
    monkeypatch.setattr(KeyChain, "extend", counted)
    assert path.key(1) == path.key(1)
    assert path.key(0) != path.key(1)
    assert hashed == [[1, 2], [3, 4]]
    late = route([1, 2, 3, 4, 5, 6], first=1)
    hashed.clear()
    late.key(1)
    assert hashed == [[3, 4]]


def test_a_route_from_the_middle_has_the_same_keys() -> None:
    tokens = [1, 2, 3, 4, 5, 6]
    assert route(tokens, first=2).key(2) == route(tokens).key(2)


def test_a_route_is_followed_forward_and_back() -> None:
    path = route([1, 2, 3])
    assert path.follow([1, 2])
    assert path.follow((1, 2, 3))
    assert path.follow([1, 2, 3, 4])
    assert path.tokens == [1, 2, 3, 4]
    assert not path.follow([1, 3])
    assert not path.follow([1, 2, 3, 5, 6])
    assert path.tokens == [1, 2, 3, 4]


def test_the_first_announcer_counts_until_it_withdraws() -> None:
    index = PrefixIndex()
    first, second, asking = route([1, 2, 3, 4]), route([1, 2, 3, 4]), route([1, 2, 3, 4, 5])
    assert index.announcer(asking, 1) is None
    index.announce(first, 1)
    index.announce(second, 1)
    assert index.announcer(asking, 1) is first
    index.withdraw(first, 1)
    assert index.announcer(asking, 1) is second
    index.withdraw(second, 1)
    assert index.announcer(asking, 1) is None
    assert not index.announced


def test_an_announcer_has_the_same_scope_and_the_whole_path() -> None:
    """Under one key: as if the hash had no bits."""
    index = PrefixIndex()
    for other in (route([1, 2, 3, 4], scope=b"tenant"), route([9, 9, 3, 4])):
        index.announced.setdefault(route([1, 2, 3, 4]).key(1), []).append(other)
    assert index.announcer(route([1, 2, 3, 4]), 1) is None

"""A look into a pool from outside: what is cached, where a prompt leaves it, and what to forget.

Reads the index by tokens and changes nothing but by `forget`. Knows token ids; knows no text, no
table and no clock.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ramet.cache.block import Block, Identity, common
from ramet.cache.pool import BlockPool


@dataclass(frozen=True, slots=True)
class Span:
    """Published blocks behind each other, of one maker, found equally often, without a branch."""

    above: int | None  # its place in the list of spans; None at the start of a scope
    start: int  # tokens before it
    tokens: int
    head: list[int]  # the first of its tokens
    blocks: int
    held: int  # of its blocks, those that sequences hold now; the others could be evicted
    found: int  # tokens that sequences found here, and had not to compute
    maker: str


@dataclass(frozen=True, slots=True)
class Spans:
    """What is published in one scope, a parent before its children."""

    spans: list[Span]
    left_out: int  # ways on from these, or from the start, that were too many to follow


@dataclass(frozen=True, slots=True)
class Nearest:
    """How cached text goes on where a prompt leaves it."""

    tokens: list[int]  # the rest of the cached block, from the first that differs
    maker: str
    whole: bool  # of a full block; else of one that is being filled


@dataclass(frozen=True, slots=True)
class Explanation:
    """How far a prompt would be found, and why no further."""

    found: int  # tokens
    wanted: list[int]  # the prompt's tokens from there on, to the end of that block
    evicted: bool  # whether that block, if full, was there and had to go, not long ago
    nearest: list[Nearest]  # the closest first; none where nothing is cached behind this place


def spans(
    pool: BlockPool, scope: bytes = b"", most: int = 1000, head: int = 128, blocks: int = 16_384
) -> Spans:
    """The tree of a scope's published blocks, the ones near the start first: `most` spans, with the
    first `head` tokens of each, and no more than so many blocks in all, since steps wait meanwhile.
    """
    found: list[Span] = []
    queue: deque[tuple[int | None, int, Block]] = deque()
    left_out = 0

    def follow(above: int | None, start: int, place: Identity) -> None:
        nonlocal left_out
        children = pool.index.sealed.get(place, [])
        room = most - len(found) - len(queue)
        queue.extend((above, start, child) for _, child in children[:room])
        left_out += max(0, len(children) - room)

    follow(None, 0, scope)
    while queue and blocks > 0:
        above, start, first = queue.popleft()
        count, held, tokens, last = 0, 0, list[int](), first
        for last in islice(_run(pool, first), blocks):
            count += 1
            held += last.owners > 0
            if len(tokens) < head:
                tokens += last.tokens[: head - len(tokens)]
        blocks -= count
        size = count * pool.block_size
        found.append(
            Span(above, start, size, tokens, count, held, first.found * count, first.maker)
        )
        follow(len(found) - 1, start + size, last.serial)
    return Spans(found, left_out + len(queue))


def explain(
    pool: BlockPool, tokens: Sequence[int], scope: bytes = b"", most: int = 5
) -> Explanation:
    """Follow a prompt into the cache as a sequence would, counting nothing; name at most `most` of
    the ways in which cached text goes on where the prompt leaves it.
    """
    place: Identity = scope
    key = pool.chain.root(scope)
    found, size, evicted = 0, pool.block_size, False
    while len(chunk := list(tokens[found : found + size])) == size:
        key = pool.chain.extend(key, chunk)
        block = pool.index.child(place, chunk)
        if block is None:
            evicted = key in pool.evicted
            break
        place, found = block.serial, found + size
    wanted = list(tokens[found : found + size])
    still_open = pool.index.open.get(place, {}).values()
    near = [*pool.index.neighbours(place, wanted, most), *still_open]
    beside = [(common(block.tokens, wanted), block) for block in near]
    run = max((agreed for agreed, _ in beside), default=0)
    nearest = [
        Nearest(block.tokens[run:], block.maker, block.serial > 0)
        for agreed, block in beside
        if agreed == run and len(block.tokens) > run
    ]
    return Explanation(found + run, wanted[run:], evicted, nearest[:most])


def forget(pool: BlockPool, tokens: Sequence[int] = (), scope: bytes = b"") -> int:
    """Make every published block whose text begins with `tokens` unfindable, and those before it
    that lead nowhere else; returns how many.

    What sequences hold stays theirs. A block that one is still filling is not published.
    """
    place: Identity = scope
    size = pool.block_size
    whole = len(tokens) // size * size
    path: list[Block] = []
    for start in range(0, whole, size):
        block = pool.index.child(place, list(tokens[start : start + size]))
        if block is None:
            return 0
        path.append(block)
        place = block.serial
    rest = list(tokens[whole:])
    doomed = [child for child in _children(pool, place) if child.tokens[: len(rest)] == rest]
    for block in doomed:
        doomed += _children(pool, block.serial)
    for block in reversed(doomed):
        pool.hide(block)
    gone = len(doomed)
    if gone or not rest:
        while path and not _goes_on(pool, path[-1].serial):
            pool.hide(path.pop())
            gone += 1
    return gone


def _children(pool: BlockPool, place: Identity) -> list[Block]:
    return [block for _, block in pool.index.sealed.get(place, ())]


def _goes_on(pool: BlockPool, place: Identity) -> bool:
    return place in pool.index.sealed or place in pool.index.open


def _run(pool: BlockPool, block: Block) -> Iterator[Block]:
    """The block and what follows it alone and is like it."""
    yield block
    while len(children := pool.index.sealed.get(block.serial, ())) == 1:
        ((_, child),) = children
        if (child.maker, child.found) != (block.maker, block.found):
            break
        block = child
        yield block

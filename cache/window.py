"""A look into a pool from outside: what is cached, where a prompt leaves it, and what to forget.

Reads the index by tokens and changes nothing but by `forget`. Knows token ids; knows no text, no
table and no clock.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ramet.cache.block import Block, Identity, common
from ramet.cache.pool import BlockPool


@dataclass(frozen=True, slots=True)
class Span:
    """Published blocks behind each other, of one maker, found equally often, without a branch."""

    above: int | None  # its place in the list of spans; None at the start of a scope
    start: int  # tokens before it
    tokens: list[int]
    blocks: int
    held: int  # of its blocks, those that sequences hold now; the others could be evicted
    found: int  # tokens that sequences found here, and had not to compute
    maker: str


@dataclass(frozen=True, slots=True)
class Spans:
    """What is published in one scope, a parent before its children."""

    spans: list[Span]
    left_out: int  # spans that were too many


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


def spans(pool: BlockPool, scope: bytes = b"", most: int = 1000) -> Spans:
    """The tree of a scope's published blocks, the ones near the start first, `most` of them."""
    found: list[Span] = []
    queue: deque[tuple[int | None, int, Block]] = deque()
    queue.extend((None, 0, block) for block in _children(pool, scope))
    while queue and len(found) < most:
        above, start, first = queue.popleft()
        run = list(_run(pool, first))
        held = sum(block.owners > 0 for block in run)
        tokens = [token for block in run for token in block.tokens]
        span = Span(above, start, tokens, len(run), held, first.found * len(run), first.maker)
        below = start + len(tokens)
        queue.extend((len(found), below, child) for child in _children(pool, run[-1].serial))
        found.append(span)
    return Spans(found, len(queue))


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
    beside = [(common(block.tokens, wanted), block) for block in _beside(pool, place)]
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
        while path and not _beside(pool, path[-1].serial):
            pool.hide(path.pop())
            gone += 1
    return gone


def _children(pool: BlockPool, place: Identity) -> list[Block]:
    return [block for _, block in pool.index.sealed.get(place, ())]


def _beside(pool: BlockPool, place: Identity) -> list[Block]:
    return [*_children(pool, place), *pool.index.open.get(place, {}).values()]


def _run(pool: BlockPool, block: Block) -> Iterator[Block]:
    """The block and what follows it alone and is like it."""
    yield block
    while len(children := _children(pool, block.serial)) == 1:
        (child,) = children
        if (child.maker, child.found) != (block.maker, block.found):
            break
        block = child
        yield block

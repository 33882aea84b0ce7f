"""A look into a pool from outside: what is cached, where a prompt leaves it, and what to forget.
A scope sees its own blocks and what is public; of that it makes nobody forget anything.

Reads the index by tokens and changes nothing but by `forget`. Knows token ids; knows no text, no
table and no clock.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ramet.cache.block import Block, Identity, before, common
from ramet.cache.pool import BlockPool
from ramet.cache.public import PUBLIC, PublicPath


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
    public: bool  # then `held`, `found` and `maker` are of all scopes


@dataclass(frozen=True, slots=True)
class Spans:
    """What is published in one scope, and in public, a parent before its children."""

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
    """The tree of published blocks that a scope can find, the ones near the start first: `most`
    spans, with the first `head` tokens of each, and no more than so many blocks in all, since steps
    wait meanwhile.
    """
    found: list[Span] = []
    queue: deque[tuple[int | None, int, Block]] = deque()
    left_out = 0

    def follow(above: int | None, start: int, serial: int, public: PublicPath | None) -> None:
        nonlocal left_out
        children = _after(pool, serial, public, scope)
        room = most - len(found) - len(queue)
        queue.extend((above, start, child) for _, child in children[:room])
        left_out += max(0, len(children) - room)

    follow(None, 0, PUBLIC, pool.public)
    while queue and blocks > 0:
        above, start, first = queue.popleft()
        count, held, tokens, last = 0, 0, list[int](), first
        for last in islice(_run(pool, first, scope), blocks):
            count += 1
            held += last.owners > 0
            if len(tokens) < head:
                tokens += last.tokens[: head - len(tokens)]
        blocks -= count
        size, hits, public = count * pool.block_size, first.found * count, first.public is not None
        found.append(Span(above, start, size, tokens, count, held, hits, first.maker, public))
        follow(len(found) - 1, start + size, last.serial, last.public)
    return Spans(found, left_out + len(queue))


def explain(
    pool: BlockPool, tokens: Sequence[int], scope: bytes = b"", most: int = 5
) -> Explanation:
    """Follow a prompt into the cache as a sequence would, counting nothing; name at most `most` of
    the ways in which cached text goes on where the prompt leaves it.
    """
    serial, key = PUBLIC, pool.chain.start
    public: PublicPath | None = pool.public
    found, size, evicted = 0, pool.block_size, False
    while len(chunk := list(tokens[found : found + size])) == size:
        if public is not None and public.on(chunk) is None:
            key = pool.chain.enter(key, scope)
        key = pool.chain.extend(key, chunk)
        block = pool.index.child(before(serial, public, scope, chunk), chunk)
        if block is None:
            evicted = key in pool.evicted
            break
        serial, public, found = block.serial, block.public, found + size
    wanted = list(tokens[found : found + size])
    own = before(serial, public, scope, ())
    near = [*pool.index.neighbours(own, wanted, most), *pool.index.open.get(own, {}).values()]
    if public is not None:
        near = [*pool.index.neighbours(serial, wanted, most), *near]
    beside = [(common(block.tokens, wanted), block) for block in near]
    run = max((agreed for agreed, _ in beside), default=0)
    nearest = [
        Nearest(block.tokens[run:], block.maker, block.serial > 0)
        for agreed, block in beside
        if agreed == run and len(block.tokens) > run
    ]
    return Explanation(found + run, wanted[run:], evicted, nearest[:most])


def forget(pool: BlockPool, tokens: Sequence[int] = (), scope: bytes = b"") -> int:
    """Make every published block of the scope's own unfindable whose text begins with `tokens`, and
    those before it that lead nowhere else; returns how many.

    What sequences hold stays theirs. A block that one is still filling is not published.
    """
    size = pool.block_size
    whole = len(tokens) // size * size
    rest = list(tokens[whole:])
    place: Identity = scope
    public: PublicPath | None = pool.public
    path: list[Block] = []
    for start in range(0, whole, size):
        chunk = list(tokens[start : start + size])
        if public is not None:
            left, public = public, public.on(chunk)
            if public is not None:
                continue
            place = left.door(scope)
        block = pool.index.child(place, chunk)
        if block is None:
            return 0
        path.append(block)
        place = block.serial
    below = _children(pool, place if public is None else public.door(scope))
    doomed = [child for child in below if child.tokens[: len(rest)] == rest]
    for chunk, on in () if public is None else public.ways():
        if list(chunk[: len(rest)]) == rest:
            for left in on.walk():
                doomed += _children(pool, left.door(scope))
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


def _after(
    pool: BlockPool, serial: int, public: PublicPath | None, scope: bytes
) -> list[tuple[list[int], Block]]:
    """What a scope can find behind a block, or at the start: what is public, then its own."""
    sealed = pool.index.sealed
    found = sealed.get(serial, [])
    return found if public is None else [*found, *sealed.get(public.door(scope), ())]


def _run(pool: BlockPool, block: Block, scope: bytes) -> Iterator[Block]:
    """The block and what follows it alone and is like it."""
    yield block
    while len(children := _after(pool, block.serial, block.public, scope)) == 1:
        ((_, child),) = children
        like = (child.maker, child.found) == (block.maker, block.found)
        if not like or (child.public is None) != (block.public is None):
            break
        block = child
        yield block

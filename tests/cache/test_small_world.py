"""Every state of a tiny world: 3 blocks of 2 tokens, 2 sequences, 2 tokens, up to 7 operations
(in the long lane, 9). Once more with two tenants and a public prefix.

States are told apart by everything but counters and the numbers of serials. Each one is reached by
replaying the shortest way to it, and checked in full.
"""

from collections.abc import Callable, Iterator
from itertools import product

import pytest
from cache_model import Row
from cache_world import World

from ramet.cache.block import Identity
from ramet.cache.public import PUBLIC as OF_ALL, Door

Scopes = tuple[bytes, bytes]
Operation = tuple[str, int, tuple[int, ...]]
SUFFIXES = [*product((0, 1), repeat=1), *product((0, 1), repeat=2)]


SCOPES = (b"", b"")
TENANTS = (b"one", b"two")
PUBLIC = ([0, 1, 0, 0],)


def fresh(scopes: Scopes) -> World:
    world = World(3, 2, public=[*PUBLIC] if scopes is TENANTS else [])
    for scope in scopes:
        world.add(scope)
    return world


def operations(world: World) -> Iterator[Operation]:
    """What can be done next. A number stands for a row."""
    yield "clear", 0, ()
    for place, row in enumerate(world.rows):
        yield "release", place, ()
        if row.wanted is not None:
            yield "fail", place, ()
            for count in range(row.wanted + 1):
                yield from (("run", place, tokens) for tokens in product((0, 1), repeat=count))
            continue
        yield from (("adopt", place, suffix) for suffix in SUFFIXES)
        yield from (("reserve", place, (count,)) for count in (1, 2))
        yield "fork", place, ()
        yield from (("truncate", place, (back,)) for back in (1, 2) if back <= len(row.tokens))


def do(world: World, operation: Operation) -> None:
    name, place, arguments = operation
    row = world.rows[place]
    acts: dict[str, Callable[[], object]] = {
        "clear": world.clear,
        "release": lambda: replace(world, row, lambda: world.add(row.scope)),
        "fail": lambda: world.fail(row),
        "run": lambda: world.run(row, list(arguments)),
        "adopt": lambda: world.adopt(row, list(arguments)),
        "reserve": lambda: world.reserve(row, arguments[0]),
        "fork": lambda: replace(world, world.rows[1 - place], lambda: world.fork(row)),
        "truncate": lambda: world.truncate(row, len(row.tokens) - arguments[0]),
    }
    acts[name]()


def replace(world: World, old: Row, make: Callable[[], Row]) -> None:
    """Release a row and put another one in its place."""
    place = world.rows.index(old)
    world.release(old)
    make()
    world.rows.insert(place, world.rows.pop())


def state(world: World) -> object:
    pool = world.pool
    ids = {block.serial: block.id for block in pool.blocks if block.serial} | {OF_ALL: -1}
    places = pool.public.walk()

    def start_of(parent: Identity | None) -> object:
        return (places.index(parent.place), parent.scope) if isinstance(parent, Door) else parent

    blocks = tuple(
        (
            block.owners,
            tuple(sorted(block.pins)),
            tuple(block.tokens),
            ids.get(block.parent) if isinstance(block.parent, int) else start_of(block.parent),
            pool.index.holds(block),
        )
        for block in pool.blocks
    )
    rows = tuple(
        (row.scope, tuple(row.table.blocks), tuple(row.tokens), row.wanted, tuple(row.copies))
        for row in world.rows
    )
    return blocks, rows, tuple(pool.free), tuple(pool.cached)


def explore(depth: int, scopes: Scopes = SCOPES) -> list[int]:
    """New states at each depth."""
    start = fresh(scopes)
    seen = {state(start)}
    frontier: list[tuple[Operation, ...]] = [()]
    counts = [1]
    for _ in range(depth):
        found: list[tuple[Operation, ...]] = []
        for way in frontier:
            for operation in operations(replay(way, scopes)):
                world = replay(way, scopes)
                do(world, operation)
                world.check()
                if (reached := state(world)) not in seen:
                    seen.add(reached)
                    found.append((*way, operation))
        frontier = found
        counts.append(len(found))
    return counts


def replay(way: tuple[Operation, ...], scopes: Scopes) -> World:
    world = fresh(scopes)
    for operation in way:
        do(world, operation)
    return world


STATES = [1, 4, 20, 102, 415, 1_640, 4_791, 10_926, 17_931, 20_428]
OF_TENANTS = [1, 6, 28, 154, 665, 2_885, 10_304]


def test_every_state_of_a_small_world() -> None:
    assert explore(6) == STATES[:7]


def test_every_state_of_a_small_world_with_a_public_prefix() -> None:
    assert explore(5, TENANTS) == OF_TENANTS[:6]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_state_of_a_small_world_further() -> None:
    assert explore(9) == STATES
    assert explore(6, TENANTS) == OF_TENANTS

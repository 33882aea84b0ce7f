"""The audit must fail when a law is broken: each law, broken on purpose in every way it names."""

from collections.abc import Callable

import pytest

from ramet.cache import AuditError, BlockPool, BlockTable
from ramet.cache.hashing import KeyChain
from ramet.cache.plan import Place
from ramet.cache.prefix import Route
from ramet.cache.table import NOWHERE


class Scene:
    """A pool in the middle of everything. Blocks hold 4 tokens.

    Block 0 and 1: [1..4] and [5..8], owned by `plain`, `twin` and `copying`.
    Block 2: [9, 9], open, owned by `plain` and `twin`, pinned by `copying`.
    Block 3 and 4: cached, the text [6] * 8. Block 5: a published sibling of block 0, [7] * 4.
    Block 6: the target of `copying`, 7: reserved with it.
    Block 8: [3, 3], open, `writing` is about to write in place; `reading` adopted it meanwhile.

    Expected: [6] * 8, the cached text, first at 3 and then at 5; at 4 block 0 and what is nowhere.
    """

    def __init__(self) -> None:
        self.pool = BlockPool(12, 4, seed=0)
        self.plain = self.grown([*range(1, 9), 9, 9])
        self.twin = self.plain.fork()
        self.copying = self.plain.fork()
        gone = self.grown([6] * 8)
        self.sibling = self.grown([7] * 4)
        gone.release()
        self.copying.reserve(5)
        self.writing = self.grown([3, 3])
        self.writing.reserve(1)
        self.reading = BlockTable(self.pool)
        self.reading.adopt([3, 3])
        self.soon = self.pool.expect([6] * 8, 3)
        self.pool.expect([6] * 8, 5)
        self.pool.expect([1, 2, 3, 4, 0, 0, 0, 0], 4)
        self.saying = BlockTable(self.pool)
        self.saying.announce([2] * 8)
        self.tables = [
            self.plain, self.twin, self.copying, self.sibling, self.writing, self.reading,
            self.saying,
        ]  # fmt: skip
        self.blocks = self.pool.blocks
        self.index = self.pool.index

    def grown(self, tokens: list[int]) -> BlockTable:
        table = BlockTable(self.pool)
        table.reserve(len(tokens))
        table.commit(tokens)
        return table

    def route(self) -> Route:
        assert self.saying.route is not None
        return self.saying.route

    def key(self) -> bytes:
        return next(iter(self.index.announced))

    def place(self, *path: int) -> Place:
        """Of the text that repeats each of these tokens in a block of its own."""
        place = self.pool.plan.places[b""]
        for token in path:
            place = place.below[(token,) * 4]
        return place

    def both(self, *changes: object) -> None:
        """For faults of more than one change: the arguments are the changes."""

    def set(self, target: object, **values: object) -> None:
        for name, value in values.items():
            setattr(target, name, value)


def test_the_scene_is_lawful() -> None:
    scene = Scene()
    scene.pool.audit(scene.tables)
    assert [block.owners for block in scene.blocks[:9]] == [3, 3, 2, 0, 0, 1, 1, 1, 2]
    assert scene.blocks[2].pins == [2]
    assert list(scene.pool.cached) == [4, 3]
    assert [place.block for place in scene.soon.path] == scene.blocks[3:5]
    assert (scene.copying.blocks, scene.writing.blocks) == ([0, 1, 6, 7], [8])


Fault = Callable[[Scene], object]
FAULTS: dict[str, dict[str, Fault]] = {
    "tables are listed": {
        "twice": lambda s: s.tables.append(s.plain),
        "of another pool": lambda s: s.tables.append(BlockTable(BlockPool(1))),
        "an unknown block": lambda s: s.plain.blocks.append(12),
        "a negative block": lambda s: s.plain.blocks.append(-1),
        "a block twice": lambda s: s.plain.blocks.append(0),
    },
    "states are distinct": {
        "a block missing": lambda s: s.blocks.pop(),
        "a block out of place": lambda s: s.set(s.blocks[9], id=10),
        "free twice": lambda s: s.pool.free.append(s.pool.free[0]),
        "free and held": lambda s: s.pool.free.append(0),
        "free and pinned": lambda s: s.both(s.set(s.blocks[9], pins=[1])),
        "free and cached": lambda s: s.pool.free.append(3),
        "cached and held": lambda s: s.pool.cached.add(0, None),
        "lost from the free list": lambda s: s.pool.free.pop(),
        "lost from the cached ones": lambda s: s.pool.cached.pop(),
        "an unknown block is cached": lambda s: s.pool.cached.add(12, None),
        "an owner too few, so nobody's": lambda s: s.set(s.blocks[5], owners=0),
    },
    "counts are references": {
        "an owner too many": lambda s: s.set(s.blocks[0], owners=4),
        "an owner too few": lambda s: s.set(s.blocks[0], owners=2),
        "a pin too many": lambda s: s.blocks[0].pins.append(1),
        "a pin too few": lambda s: s.blocks[2].pins.clear(),
        "a pin of another length": lambda s: s.set(s.blocks[2], pins=[3]),
        "a table nobody told of": lambda s: s.tables.remove(s.twin),
    },
    "free is blank": {
        "tokens": lambda s: s.blocks[9].tokens.append(1),
        "a parent": lambda s: s.set(s.blocks[9], parent=b""),
        "a serial": lambda s: s.set(s.blocks[9], serial=99),
        "a key": lambda s: s.set(s.blocks[9], key=b"key"),
    },
    "index is exact": {
        "a stale entry": lambda s: s.index.keys.update({b"stale": s.blocks[0]}),
        "an entry of a blank block": lambda s: s.index.keys.update({b"": s.blocks[9]}),
        "a block that is not of the pool": lambda s: s.index.keys.update(
            {s.blocks[0].key: Scene().blocks[0]}
        ),
        "another key in the block": lambda s: s.set(s.blocks[0], key=b"other"),
        "published and not full": lambda s: s.blocks[0].tokens.pop(),
        "a serial twice": lambda s: s.set(s.blocks[0], serial=s.blocks[1].serial),
        "cached and not findable": lambda s: s.index.keys.pop(s.blocks[3].key),
        "findable without sharing": lambda s: s.set(s.pool, sharing=False),
    },
    "keys are hashes": {
        "of other tokens": lambda s: s.blocks[0].tokens.__setitem__(1, 99),
        "of another parent": lambda s: s.set(s.blocks[1], parent=s.blocks[3].serial),
        "of another tenant": lambda s: s.set(s.blocks[0], parent=b"tenant"),
        "of another chain": lambda s: s.set(s.pool, chain=KeyChain(1, b"")),
    },
    "children are exact": {
        "a sealed child missing": lambda s: s.index.sealed.pop(s.blocks[0].serial),
        "a sealed child too many": lambda s: s.index.sealed.update(
            {77: [(s.blocks[0].tokens, s.blocks[0])]}
        ),
        "tokens of their own": lambda s: s.index.sealed[b""].__setitem__(
            0, ([1, 2, 3, 4], s.blocks[0])
        ),
        "a sealed child that is not published": lambda s: s.index.keys.pop(s.blocks[0].key),
        "out of order": lambda s: s.index.sealed[b""].reverse(),
        "no sealed children": lambda s: s.index.sealed.update({77: []}),
        "an unknown parent": lambda s: s.set(s.blocks[1], parent=77),
        "an open child missing": lambda s: s.index.open.pop(b""),
        "an open child of another": lambda s: s.index.open.update({77: {8: s.blocks[8]}}),
        "a sealed one among the open": lambda s: s.index.open[b""].update({0: s.blocks[0]}),
        "under another's id": lambda s: s.index.open[b""].update({9: s.blocks[8]}),
        "no open children": lambda s: s.index.open.update({77: {}}),
    },
    "tables are paths": {
        "too long": lambda s: s.set(s.plain, length=13),
        "too short": lambda s: s.set(s.plain, length=8),
        "less than nothing": lambda s: s.set(s.saying, length=-1),
        "more counted than recorded": lambda s: s.set(s.plain, length=11),
        "in another order": lambda s: s.plain.blocks.reverse(),
        "of another tenant": lambda s: s.set(s.sibling, scope=b"tenant"),
        "full and open": lambda s: s.both(
            s.blocks[2].tokens.extend([9, 9]), s.set(s.plain, length=12, tail=NOWHERE)
        ),
        "a tail where there is none": lambda s: s.set(s.sibling, tail=s.blocks[0]),
        "no tail where there is one": lambda s: s.set(s.plain, tail=NOWHERE),
        "the target of a copy exposed": lambda s: s.index.expose(s.blocks[6], s.blocks[1].serial),
    },
    "steps are private": {
        "taken outside a step": lambda s: s.set(s.plain, taken=1),
        "over recorded tokens": lambda s: s.blocks[8].tokens.append(3),
        "over tokens in a blank block": lambda s: s.blocks[7].tokens.append(3),
        "into a published block": lambda s: s.both(
            s.set(s.sibling, length=3, reserved=1, tail=s.blocks[5])
        ),
        "two in one block": lambda s: s.set(s.reading, reserved=1),
        "over what a copy reads": lambda s: s.both(
            s.twin.release(),
            s.set(s.plain, length=9, reserved=1),
            s.blocks[2].tokens.pop(),
        ),
        "into a block that two own": lambda s: s.both(
            s.twin.truncate(8),
            s.twin.blocks.append(7),
            s.set(s.blocks[7], owners=2),
            s.set(s.twin, reserved=1),
            s.tables.reverse(),
        ),
    },
    "announcements are live": {
        "not noted": lambda s: s.index.announced.clear(),
        "noted for nobody": lambda s: s.tables.remove(s.saying),
        "noted twice": lambda s: s.index.announced[s.key()].append(s.route()),
        "no announcer": lambda s: s.index.announced.update({b"key": []}),
        "of a block that is in": lambda s: s.both(
            s.sibling.announce([7] * 8),
            s.sibling.route and s.sibling.route.announced.update({0: b"key"}),
            s.index.announced.update({b"key": [s.sibling.route or s.route()]}),
        ),
        "withdrawn by half": lambda s: s.route().announced.popitem(),
    },
    "places are a tree": {
        "a use too many": lambda s: s.place(6, 6).uses.append(9),
        "no use": lambda s: s.place(6, 6).uses.clear(),
        "uses out of order": lambda s: s.place(6).uses.reverse(),
        "another above": lambda s: s.set(s.place(6, 6), above=s.place()),
        "other tokens": lambda s: s.set(s.place(6, 6), tokens=(7,) * 4),
        "no full block": lambda s: s.both(
            s.set(s.place(6, 6), tokens=()),
            s.place(6).below.update({(): s.place(6).below.pop((6,) * 4)}),
        ),
        "a scope without any": lambda s: s.pool.plan.places.update({b"one": Place(None, ())}),
        "miscounted": lambda s: s.set(s.pool.plan, count=3),
        "too many": lambda s: s.set(s.pool.plan, limit=3),
        "without sharing": lambda s: s.both(
            s.set(s.pool, sharing=False),
            s.index.keys.clear(),
            s.index.open.clear(),
            s.index.announced.clear(),
            s.index.sealed.clear(),
            s.set(s.saying, route=None),
            s.pool.cached.discard(3),
            s.pool.cached.discard(4),
            s.pool.free.extend([3, 4]),
            s.blocks[3].blank(),
            s.blocks[4].blank(),
            [s.set(b, parent=None) for b in s.blocks if not b.serial],
        ),
    },
    "places find blocks": {
        "bound to another": lambda s: s.set(s.place(6, 6), block=s.blocks[3]),
        "bound to nothing": lambda s: s.set(s.place(6, 6), block=None),
        "under another identity": lambda s: s.set(s.place(6, 6), identity=77),
        "not known": lambda s: s.pool.plan.places.pop(s.blocks[4].serial),
        "known twice": lambda s: s.pool.plan.places.update({77: s.place(6, 6)}),
    },
    "turns are exact": {
        "too early": lambda s: s.pool.cached.move(4, None),
        "too late": lambda s: s.pool.cached.move(3, 2),
        "the heap out of order": lambda s: s.pool.cached._heap.reverse(),
        "not in the heap": lambda s: s.pool.cached._heap.clear(),
        "in the queue too": lambda s: s.pool.cached._queue.update({4: 1}),
        "the queue out of order": lambda s: s.both(
            s.pool.cached.discard(3),
            s.pool.cached.discard(4),
            s.pool.cached._queue.update({4: 9, 3: 8}),
        ),
    },
    "descendants go first": {
        "the parent first": lambda s: s.both(s.pool.cached.discard(4), s.pool.cached.add(4, 3)),
    },
}


@pytest.mark.parametrize(
    ("law", "fault"),
    [
        pytest.param(law, fault, id=f"{law}: {name}")
        for law, faults in FAULTS.items()
        for name, fault in faults.items()
    ],
)
def test_a_broken_law_is_named(law: str, fault: Fault) -> None:
    scene = Scene()
    fault(scene)
    with pytest.raises(AuditError) as caught:
        scene.pool.audit(scene.tables)
    assert caught.value.law == law, caught.value


def test_a_pool_that_shares_nothing_has_nothing_to_find() -> None:
    pool = BlockPool(4, 2, sharing=False)
    table = BlockTable(pool)
    table.reserve(3)
    table.commit([1, 2, 3])
    pool.audit([table])
    pool.index.expose(pool.blocks[1], b"")
    with pytest.raises(AuditError, match="index is exact"):
        pool.audit([table])

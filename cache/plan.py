"""Uses that are expected: paths of tokens, and which published blocks lie on them. Knows no owner.

An expectation says that the text `tokens` will be wanted, and when: the place of that use in the
queue of all that is to come. Expectations make a tree of *places*, one for each full block of
tokens after the place before it. A block that is published where an expectation passes is bound to
its place, and its next use is the nearest of all that pass there: never later than that of a block
that builds on it. Where an expectation leaves a public path, it goes on in a tree of its scope's
own, which starts at the door. Places are found by comparing tokens, under the block that is bound
above them; no key is involved, so a collision can neither give nor take an expectation.

An expectation is a hint: it pins nothing and refuses nothing. Only so many places are kept; what
would go past them is cut off, for nothing that far away decides what is evicted now.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

from ramet.cache.block import Block, Identity
from ramet.cache.eviction import EvictionOrder
from ramet.cache.prefix import PrefixIndex
from ramet.cache.public import PUBLIC, PublicPath


class Place:
    """A full block of tokens where expectations pass, whether such a block is published or not."""

    __slots__ = ("above", "below", "block", "identity", "tokens", "uses")

    def __init__(self, above: "Place | None", tokens: tuple[int, ...]) -> None:
        self.above = above  # None: the start of a scope, of what is public, or at a door
        self.tokens = tokens
        self.below: dict[tuple[int, ...], Place] = {}
        self.uses: list[int] = []  # of all expectations through here, sorted
        self.block: Block | None = None
        self.identity: Identity | None = None  # under which it is in `Plan.places`

    @property
    def next_use(self) -> int | None:
        return self.uses[0] if self.uses else None


class Expectation:
    """One expected use. Drop it when the use is there, or will not be; else it counts for ever."""

    __slots__ = ("_plan", "path", "use")

    def __init__(self, plan: "Plan", path: list[Place], use: int) -> None:
        self._plan = plan
        self.path = path  # from the start on; empty when dropped
        self.use = use

    def drop(self) -> None:
        """Expect it no longer. Twice is fine."""
        path, self.path = self.path, []
        self._plan.leave(path, self.use)


class Plan:
    """All expectations of a pool. `order` is kept in step with them."""

    __slots__ = ("_index", "_order", "_public", "_size", "count", "limit", "places")

    def __init__(
        self, index: PrefixIndex, order: EvictionOrder, public: PublicPath, size: int, limit: int
    ) -> None:
        """At most `limit` places are kept."""
        self._index = index
        self._order = order
        self._public = public
        self._size = size
        self.limit = limit
        self.count = 0  # of places, the starts aside
        self.places: dict[Identity, Place] = {}  # others than starts by their serial

    def expect(self, tokens: Sequence[int], use: int, scope: bytes) -> Expectation:
        path: list[Place] = []
        public: PublicPath | None = self._public
        start: Identity = PUBLIC
        place: Place | None = None
        for end in range(self._size, len(tokens) + 1, self._size):
            chunk = tuple(tokens[end - self._size : end])
            if public is not None:
                left, public = public, public.on(chunk)
                if public is None:
                    start, place = left.door(scope), None
            place = place or self.places.get(start) or Place(None, ())
            below = place.below.get(chunk)
            if below is None and self.count == self.limit:
                break
            if place.above is None and place.identity is None:
                self._bind(place, start, None)
            place = below or self._grow(place, chunk)
            insort(place.uses, use)
            if place.uses[0] == use:
                self._reorder(place)
            path.append(place)
        return Expectation(self, path, use)

    def leave(self, path: list[Place], use: int) -> None:
        """An expectation that passed these places does so no longer."""
        for place in reversed(path):
            del place.uses[bisect_left(place.uses, use)]
            if place.next_use != use:
                self._reorder(place)
            if not place.uses:
                self._remove(place)

    def next_use(self, block: Block) -> int | None:
        """When the block is expected to be used next; None: never."""
        place = self.places.get(block.serial)
        return None if place is None else place.next_use

    def published(self, block: Block, parent: Identity) -> None:
        """A block that can be found now."""
        above = self.places.get(parent)
        if above is not None:
            place = above.below.get(tuple(block.tokens))
            if place is not None:
                self._bind(place, block.serial, block)

    def gone(self, block: Block) -> None:
        """A block that cannot be found any more, and so nothing that builds on it."""
        place = self.places.get(block.serial)
        unreachable = [] if place is None else [place]
        for place in unreachable:
            unreachable += [below for below in place.below.values() if below.block is not None]
            orphan = self._unbind(place)
            if orphan is not None:
                self._order.move(orphan.id, None)

    def _grow(self, above: Place, tokens: tuple[int, ...]) -> Place:
        place = above.below[tokens] = Place(above, tokens)
        self.count += 1
        if above.identity is not None:
            block = self._index.child(above.identity, list(tokens))
            if block is not None:
                self._bind(place, block.serial, block)
        return place

    def _remove(self, place: Place) -> None:
        above = place.above
        assert above is not None, "a start is on no path"
        self._unbind(place)
        self.count -= 1
        del above.below[place.tokens]
        if above.above is None and not above.below:
            self._unbind(above)

    def _bind(self, place: Place, identity: Identity, block: Block | None) -> None:
        place.identity, place.block = identity, block
        self.places[identity] = place

    def _unbind(self, place: Place) -> Block | None:
        block = place.block
        if place.identity is not None:
            del self.places[place.identity]
        place.identity = place.block = None
        return block

    def _reorder(self, place: Place) -> None:
        if place.block is not None:
            self._order.move(place.block.id, place.next_use)

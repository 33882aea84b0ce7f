"""What can be found: sealed blocks by key, children by parent, and what is being computed now.

Knows blocks and keys. Does not know who owns a block, nor when one is reused.

A lookup by key is a guess that `find` verifies. Below full blocks, `longest` compares tokens one by
one among the children of a block. Of sealed children there can be very many (every conversation
that begins alike hangs under the same parent), so they are kept sorted: the one that shares the
most with a query stands right beside the query's own place. Open ones are at most one a live table
and their tokens grow, so they are simply tried in turn.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

from ramet.cache.block import Block, Identity, common
from ramet.cache.hashing import KeyChain
from ramet.cache.public import PublicPath


class Route:
    """The tokens a table is heading for, and the keys of their full blocks, each hashed once."""

    __slots__ = (
        "_chain", "_first", "_keys", "_public", "_shared", "_size", "announced", "scope", "tokens",
    )  # fmt: skip

    def __init__(
        self,
        chain: KeyChain,
        scope: bytes,
        size: int,
        first: int,
        parent: bytes,
        tokens: list[int],
        public: PublicPath | None = None,
    ) -> None:
        """`parent` is the key before block `first`, and `public` the place there if all before it
        is public; no key of an earlier block will be asked."""
        self._chain = chain
        self._size = size
        self._first = first
        self._keys = [parent]
        self._public = public  # behind the last block whose key is known
        self._shared = first  # the number of the first block that is not known to be public
        self.scope = scope
        self.tokens = tokens
        self.announced: dict[int, bytes] = {}  # block number -> key, until committed

    def key(self, number: int) -> bytes:
        """The key of full block `number`."""
        keys = self._keys
        while len(keys) <= number + 1 - self._first:
            start = (self._first + len(keys) - 1) * self._size
            chunk = self.tokens[start : start + self._size]
            above = keys[-1] if self._public is None else self._go_on(self._public, keys[-1], chunk)
            keys.append(self._chain.extend(above, chunk))
        return keys[number + 1 - self._first]

    def _go_on(self, public: PublicPath, key: bytes, tokens: list[int]) -> bytes:
        """The key before the next block: that of the public path, unless the block leaves it."""
        self._public = public.on(tokens)
        if self._public is None:
            return self._chain.enter(key, self.scope)
        self._shared += 1
        return key

    def is_public(self, number: int) -> bool:
        """Whether full block `number` is public, if its key was asked."""
        return number < self._shared

    def chunk(self, number: int) -> list[int]:
        """The tokens of block `number`: fewer than a block of them at the end, none after it."""
        return self.tokens[number * self._size : (number + 1) * self._size]

    def through(self, number: int) -> list[int]:
        """The tokens from the start to the end of block `number`."""
        return self.tokens[: (number + 1) * self._size]

    def follow(self, tokens: Sequence[int]) -> bool:
        """True when `tokens` is on this route or goes on where it ends; then it covers them."""
        known = len(self.tokens)
        head = list(tokens[:known])
        if head != (self.tokens if len(head) == known else self.tokens[: len(head)]):
            return False
        self.tokens += tokens[known:]
        return True


class PrefixIndex:
    """Finds blocks by what they hold. Every method is told the exact change; none decides one."""

    __slots__ = ("_serial", "announced", "keys", "open", "sealed")

    def __init__(self) -> None:
        self._serial = 0
        self.keys: dict[bytes, Block] = {}
        self.sealed: dict[Identity, list[tuple[list[int], Block]]] = {}
        self.open: dict[Identity, dict[int, Block]] = {}
        self.announced: dict[bytes, list[Route]] = {}

    def find(self, key: bytes, parent: Identity, tokens: list[int]) -> Block | None:
        """The published block with exactly these tokens after exactly this parent."""
        block = self.keys.get(key)
        if block is None or block.tokens != tokens or block.parent != parent:
            return None
        return block

    def child(self, parent: Identity, tokens: list[int]) -> Block | None:
        """As `find`, by comparing tokens alone: no key is known."""
        siblings = self.sealed.get(parent, [])
        place = bisect_left(siblings, (tokens,))
        if place < len(siblings) and siblings[place][0] == tokens:
            return siblings[place][1]
        return None

    def holds(self, block: Block) -> bool:
        """True while the block is published and has not been displaced."""
        return block.serial != 0 and self.keys.get(block.key) is block

    def seal(self, block: Block, key: bytes, parent: Identity) -> None:
        """Publish a full block under a new serial. Nothing else may be under `key`."""
        if block.parent is not None:
            self.close(block)
        self._serial += 1
        block.serial = self._serial
        block.key = key
        block.parent = parent
        self.keys[key] = block
        insort(self.sealed.setdefault(parent, []), (block.tokens, block))

    def unseal(self, block: Block) -> None:
        """Make a published block unfindable. It keeps its serial: tables may still build on it."""
        parent = block.parent
        assert parent is not None, "a published block has a parent"
        del self.keys[block.key]
        siblings = self.sealed[parent]
        del siblings[bisect_left(siblings, (block.tokens,))]
        if not siblings:
            del self.sealed[parent]

    def expose(self, block: Block, parent: Identity) -> None:
        """Let the committed tokens of a partly filled block be found."""
        block.parent = parent
        self.open.setdefault(parent, {})[block.id] = block

    def close(self, block: Block) -> None:
        """Take a partly filled block out again."""
        parent = block.parent
        assert parent is not None, "an exposed block has a parent"
        siblings = self.open[parent]
        del siblings[block.id]
        if not siblings:
            del self.open[parent]

    def longest(self, parent: Identity, tokens: list[int]) -> tuple[int, Block | None]:
        """How many of `tokens` some child of `parent` begins with, and the child; 0 and None if no
        child shares a token. Among equals a sealed child, then the one exposed first."""
        run, best = 0, None
        for block in (*self.neighbours(parent, tokens), *self.open.get(parent, {}).values()):
            shared = common(block.tokens, tokens)
            if shared > run:
                run, best = shared, block
        return run, best

    def neighbours(self, parent: Identity, tokens: list[int], most: int = 1) -> list[Block]:
        """Sealed children that stand beside the place of `tokens`, at most so many on either side.
        Those that share the most with it are among them: they stand in a row around it."""
        siblings = self.sealed.get(parent, [])
        place = bisect_left(siblings, (tokens,))
        return [block for _, block in siblings[max(place - most, 0) : place + most]]

    def announce(self, route: Route, number: int) -> None:
        """Someone on `route` will compute its full block `number`."""
        key = route.key(number)
        route.announced[number] = key
        self.announced.setdefault(key, []).append(route)

    def withdraw(self, route: Route, number: int) -> None:
        """Block `number` of `route` is computed, or will not be."""
        key = route.announced.pop(number)
        routes = self.announced[key]
        routes.remove(route)
        if not routes:
            del self.announced[key]

    def announcer(self, route: Route, number: int) -> Route | None:
        """The first to have announced block `number` of `route`, tokens and scope compared; of a
        public block, the tokens.

        Only the first counts: then of tables that wait for each other's blocks one never waits.
        """
        path, key = route.through(number), route.key(number)
        scopes_meet = route.is_public(number)
        for other in self.announced.get(key, ()):
            if (scopes_meet or other.scope == route.scope) and other.through(number) == path:
                return other
        return None

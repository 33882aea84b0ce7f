"""The blocks: which are free, held, cached, and how one becomes another. Knows no table's inside.

A block is *free* (blank), *held* (owned by tables, or pinned by a copy in flight) or *cached*
(nobody's, but published: it can be found and held again until it is reused). Free blocks are taken
before cached ones, the one freed last first. Of cached ones go first those that no expected use
needs, then those whose next use is farthest, and among equals the one given up first. A table gives
up its last block first, and whoever needs a block needs those before it: so a block goes before the
blocks it builds on.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from ramet.cache.audit import Holder, audit
from ramet.cache.block import Block, Identity
from ramet.cache.errors import CacheMisuse, OutOfBlocks
from ramet.cache.eviction import EvictionOrder
from ramet.cache.hashing import KeyChain
from ramet.cache.plan import Expectation, Plan
from ramet.cache.prefix import PrefixIndex
from ramet.cache.public import PublicPath
from ramet.cache.stats import CacheStats, Counters

# Expected uses are followed through this many full pools. What lies behind more distinct blocks
# than fit is evicted before its turn under any order; more than one, because most of what is
# expected is on other paths than what is cached.
PLANNED_POOLS = 4
REMEMBERED = 10_000  # keys of evicted blocks


class BlockPool:
    """A fixed number of blocks and what can be found in them.

    Engines use the constructor, `available`, `declare_public`, `expect`, `stats`, `audit` and
    `clear`; the others are for tables. Every method either does what it says or raises and changes
    nothing.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int = 16,
        *,
        fingerprint: bytes = b"",
        seed: int | None = None,
        sharing: bool = True,
    ) -> None:
        """`fingerprint` names what the keys and values depend on besides tokens: model, dtype,
        layout. `seed` is the root of all keys, random if None. Without `sharing` nothing is
        published, adopted or announced; forks still share, since they are asked for."""
        if num_blocks < 1 or block_size < 1:
            raise CacheMisuse(f"a pool of {num_blocks} blocks of {block_size} tokens")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.sharing = sharing
        self.chain = KeyChain(seed, fingerprint)
        self.index = PrefixIndex()
        self.public = PublicPath()
        self.counters = Counters()
        self.blocks = [Block(id) for id in range(num_blocks)]
        self.free = list(range(num_blocks - 1, -1, -1))
        self.cached = EvictionOrder()
        self.evicted: deque[bytes] = deque(maxlen=REMEMBERED)  # keys, for who asks why
        self.plan = Plan(
            self.index, self.cached, self.public, block_size, PLANNED_POOLS * num_blocks
        )

    @property
    def available(self) -> int:
        """Blocks that can be taken right now."""
        return len(self.free) + len(self.cached)

    def declare_public(self, tokens: Sequence[int]) -> int:
        """Let all scopes share the full blocks of `tokens`; returns how many these are. What is
        cached goes. It cannot be taken back.

        Raises `CacheMisuse` while a block is held or a use expected: they have their places.
        """
        if self.available < self.num_blocks or self.plan.count:
            raise CacheMisuse("something is held or expected: declare what is public before that")
        self.clear()
        return self.public.declare(tokens, self.block_size)

    def expect(self, tokens: Sequence[int], use: int, scope: bytes = b"") -> Expectation:
        """Say that a table in this scope will adopt `tokens`, so that its blocks are evicted late.

        `use` is the place of that in the queue of everything expected: smaller is sooner. Only full
        blocks count; they need not be there yet. Drop the expectation when it came true.
        """
        return self.plan.expect(tokens if self.sharing else (), use, scope)

    def stats(self) -> CacheStats:
        free, cached, count = len(self.free), len(self.cached), self.counters
        return CacheStats(
            num_blocks=self.num_blocks,
            free=free,
            held=self.num_blocks - free - cached,
            cached=cached,
            queries=count.queries,
            hits=count.hits,
            published=count.published,
            merged=count.merged,
            displaced=count.displaced,
            evicted=count.evicted,
            copies=count.copies,
        )

    def audit(self, tables: Iterable[Holder]) -> None:
        """Check every law of the bookkeeping; `tables` are all live ones. O(blocks + references).

        Raises AuditError at the first law that does not hold.
        """
        audit(self, list(tables))

    def clear(self) -> int:
        """Drop every cached block; returns how many. What tables hold stays, and stays findable."""
        dropped = len(self.cached)
        while self.cached:
            self.free.append(self._reuse_next().id)
        return dropped

    def take(self) -> Block:
        """A blank block with one owner."""
        if self.free:
            block = self.blocks[self.free.pop()]
        elif self.cached:
            block = self._reuse_next()
            self.counters.evicted += 1
        else:
            raise OutOfBlocks(1, 0)
        block.owners = 1
        return block

    def _reuse_next(self) -> Block:
        block = self.blocks[self.cached.pop()]
        self.evicted.append(block.key)
        self._unseal(block)
        block.blank()
        return block

    def share(self, block: Block) -> None:
        """One owner more, of a held or cached block."""
        if not block.owners and not block.pins and not self.cached.discard(block.id):
            raise CacheMisuse(f"block {block.id} is free, there is nothing to share")
        block.owners += 1

    def drop(self, block: Block) -> None:
        """One owner fewer. The last one leaves it cached if it can be found whole, else free."""
        if not block.owners:
            raise CacheMisuse(f"block {block.id} has no owner to release it")
        block.owners -= 1
        if not block.owners and not block.pins:
            self._retire(block)

    def pin(self, block: Block, tokens: int) -> None:
        """Turn one ownership into a pin: a copy in flight will read the first `tokens` slots. The
        block stays, those slots stay as they are, and the next writer sees one owner fewer."""
        if not block.owners:
            raise CacheMisuse(f"block {block.id} has no owner to pin it")
        block.owners -= 1
        block.pins.append(tokens)

    def unpin(self, block: Block, tokens: int) -> None:
        """The copy is done."""
        self._end_pin(block, tokens)
        if not block.owners and not block.pins:
            self._retire(block)

    def reclaim(self, block: Block, tokens: int) -> None:
        """The copy is called off: the pin becomes an ownership again."""
        self._end_pin(block, tokens)
        block.owners += 1

    def _end_pin(self, block: Block, tokens: int) -> None:
        if tokens not in block.pins:
            raise CacheMisuse(f"block {block.id} has no pin of {tokens} tokens")
        block.pins.remove(tokens)

    def _retire(self, block: Block) -> None:
        """A block that nobody holds: cached if it is published, else free."""
        if block.serial:
            if self.index.holds(block):
                self.cached.add(block.id, self.plan.next_use(block))
                return
        elif block.parent is not None:
            self.index.close(block)
        block.blank()
        self.free.append(block.id)

    def publish(self, block: Block, key: bytes, parent: Identity) -> None:
        """Make a full block findable. Another one under the same key is a collision, or builds on
        something that can no longer be found: the newer one replaces it."""
        older = self.index.keys.get(key)
        if older is not None:
            self._displace(older)
        self.index.seal(block, key, parent)
        self.plan.published(block, parent)
        self.counters.published += 1

    def _displace(self, block: Block) -> None:
        self.hide(block)
        self.counters.displaced += 1

    def hide(self, block: Block) -> None:
        """Make a published block unfindable, and free if nobody holds it."""
        self._unseal(block)
        if self.cached.discard(block.id):
            self._retire(block)

    def _unseal(self, block: Block) -> None:
        self.index.unseal(block)
        self.plan.gone(block)

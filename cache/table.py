"""One sequence's blocks, in order, and every step a sequence can take. Knows its pool and token
ids; knows no other table and no tensor.

A step is reserve, run, commit. Between reserve and commit nothing new can be found, and rollback
undoes it. Blocks shared with others are copied before they are written, by these rules:

- A sealed block is never written.
- An open block is written in place by its only owner, and only past what copies in flight read.
  Who adopted less of the same block than the writer counts reads only its own beginning, which
  the writer does not touch.
- Any other writer takes a new block and asks for a Copy. Until that copy ran it pins the source,
  and owns it no longer: so the last of several writers in one step finds itself alone and writes
  in place, and w writers that part in one block cost w - 1 copies.
"""

from collections.abc import Sequence

from ramet.cache.block import Block, Copy, Identity, before, common
from ramet.cache.errors import CacheMisuse, OutOfBlocks
from ramet.cache.pool import BlockPool
from ramet.cache.prefix import Route
from ramet.cache.public import PUBLIC, PublicPath

# The tail of a table that ends at a block's edge: never owned, so never written.
NOWHERE = Block(-1)
# No full block: what is partly filled is private.
PART: tuple[int, ...] = ()


class BlockTable:
    """The blocks of one sequence in one scope (tenant). Full public blocks are those of all scopes.

    `blocks` are the ids in order, reserved ones last; `length` counts the tokens whose keys and
    values are committed. Both are for others to read. `blocks` can change in the middle when a
    call says so: reserve replaces the tail it copies, adopt a tail it finds a better one for, and
    commit a block that filled up with what a published block already holds.

    `reserved` is the room asked for, None outside a step; `taken` how many blocks that took;
    `source` the block being copied. `tail` is the partly filled block at `length`. `maker` is
    written down on the blocks that it publishes, for who looks into the cache.
    """

    __slots__ = (
        "_size",
        "blocks",
        "length",
        "maker",
        "pool",
        "reserved",
        "route",
        "scope",
        "source",
        "tail",
        "taken",
    )

    def __init__(self, pool: BlockPool, scope: bytes = b"", maker: str = "") -> None:
        self.pool = pool
        self.scope = scope
        self.maker = maker
        self.blocks: list[int] = []
        self.length = 0
        self.reserved: int | None = None
        self.taken = 0
        self.source: Block | None = None
        self.tail = NOWHERE
        self.route: Route | None = None
        self._size = pool.block_size

    # Finding

    def adopt(self, tokens: Sequence[int]) -> int:
        """Extend by the longest committed path for `tokens`; returns the new length, which may be
        len(tokens). `tokens[:length]` must be what is in already.

        Whole blocks come first, then the beginning of a block: a sealed one, or one that a live
        table is still filling. A partly filled tail is swapped for a block that holds more.
        """
        self._refuse_in_step("adopt")
        self._refuse_shorter(tokens)
        if not self.pool.sharing:
            return self.length
        before, end = self.length, len(tokens)
        route = self._route_to(tokens)
        while block := self._next_full(route, end):
            self._enter(block, self._size)
        self._adopt_part(route, end)
        self.pool.counters.queries += end - before
        self.pool.counters.hits += self.length - before
        return self.length

    def _next_full(self, route: Route, end: int) -> Block | None:
        number = self.length // self._size
        if (number + 1) * self._size > end:
            return None
        chunk = route.chunk(number)
        return self.pool.index.find(route.key(number), self._identity(number, chunk), chunk)

    def _adopt_part(self, route: Route, end: int) -> None:
        """Extend inside one block. The own tail is preferred among equals: it costs no copy."""
        number, filled = divmod(self.length, self._size)
        chunk = route.chunk(number)[: end - number * self._size]
        mine = common(self.tail.tokens, chunk)
        run, block = self._longest(number, chunk)
        if block is not None and run > max(mine, filled):
            self._enter(block, run)
        elif mine > filled:
            self._enter(self.tail, mine)

    def _longest(self, number: int, tokens: list[int]) -> tuple[int, Block | None]:
        """The block that begins most like `tokens`, and how many of them: one of this scope, or a
        public one, which is preferred among equals."""
        index = self.pool.index
        run, block = index.longest(self._identity(number, PART), tokens)
        if (public := self._public(number)) and not public.ends:
            serial = self.pool.blocks[self.blocks[number - 1]].serial if number else PUBLIC
            shared, other = index.longest(serial, tokens)
            if shared and shared >= run:
                return shared, other
        return run, block

    def _enter(self, block: Block, filled: int) -> None:
        """Let the block at `length` be `block`, and count its first `filled` tokens."""
        number = self.length // self._size
        if number == len(self.blocks):
            self.pool.share(block)
            self.blocks.append(block.id)
        elif block is not self.tail:
            self.pool.share(block)
            self.pool.drop(self.tail)
            self.blocks[number] = block.id
        block.found += number * self._size + filled - self.length
        self.length = number * self._size + filled
        if filled == self._size:
            self.tail = NOWHERE
            self._pass(number, block.tokens)
        else:
            self.tail = block

    def awaits(self, tokens: Sequence[int]) -> bool:
        """True while another table has announced the next full block of `tokens` and has neither
        committed nor withdrawn it. Waiting is then cheaper than computing it again.

        Of two tables that announced the same block only the later one waits: nobody waits in a
        ring.
        """
        self._refuse_shorter(tokens)
        number = self.length // self._size
        if not self.pool.sharing or (number + 1) * self._size > len(tokens):
            return False
        first = self.pool.index.announcer(self._route_to(tokens), number)
        return first is not None and first is not self.route

    def announce(self, tokens: Sequence[int]) -> None:
        """Say that this table is going to compute `tokens`: full blocks past `length` can be
        awaited. Replaces what was announced before, unless `tokens` goes on from it."""
        self._refuse_shorter(tokens)
        if not self.pool.sharing:
            return
        route = self._route_to(tokens)
        if route is not self.route:
            self._withdraw()
            self.route = route
        for number in range(self.length // self._size, len(tokens) // self._size):
            if number not in route.announced:
                self.pool.index.announce(route, number)

    def _route_to(self, tokens: Sequence[int]) -> Route:
        """The route along `tokens`, the present one if it leads there. An announced route is kept
        when other tokens are merely asked about."""
        route = self.route
        if route is None or not route.follow(tokens):
            announcing = route is not None and route.announced
            first = self.length // self._size
            key, public = self._key_before(first), self._public(first)
            chain, known = self.pool.chain, list(tokens)
            route = Route(chain, self.scope, self._size, first, key, known, public)
            if not announcing:
                self.route = route
        return route

    def _pass(self, number: int, tokens: list[int]) -> None:
        """Full block `number` is in. Withdraws its announcement, or all if it is not as announced;
        forgets the route at its end."""
        route = self.route
        if route is None:
            return
        if route.chunk(number) != tokens:
            self._withdraw()
            return
        if number in route.announced:
            self.pool.index.withdraw(route, number)
        if len(route.tokens) < (number + 2) * self._size:
            self.route = None

    def _withdraw(self) -> None:
        if self.route is not None:
            for number in list(self.route.announced):
                self.pool.index.withdraw(self.route, number)
            self.route = None

    # The step

    def blocks_needed(self, count: int) -> int:
        """Blocks that reserve(count) would take now, the copy-on-write block included."""
        missing = -(-(self.length + count) // self._size) - len(self.blocks)
        filled = self.length % self._size
        copies = count > 0 and filled > 0 and not self._writes_in_place(filled)
        return max(missing, 0) + copies

    def reserve(self, count: int) -> list[Copy]:
        """Make room for `count` tokens past length; returns the copies that must run before the
        step does. Raises OutOfBlocks and changes nothing if there is no room for all.

        None of the copies in flight writes what another reads: those of many tables may run
        together, in any order. Rollback calls them off.
        """
        tail = self.tail
        slack = len(self.blocks) * self._size - self.length
        # A decode step inside its own block, where nothing has to change, is most of all calls.
        if (
            tail.owners == 1
            and 0 <= count <= slack
            and len(tail.tokens) == self._size - slack
            and self.reserved is None
        ):
            self.reserved = count
            return []
        return self._reserve(count)

    def _reserve(self, count: int) -> list[Copy]:
        self._refuse_in_step("reserve")
        if count < 0:
            raise CacheMisuse(f"reserve({count})")
        needed = self.blocks_needed(count)
        if needed > self.pool.available:
            raise OutOfBlocks(needed, self.pool.available)
        copies = self._own_tail() if count and self.tail is not NOWHERE else []
        while len(self.blocks) * self._size < self.length + count:
            self.blocks.append(self.pool.take().id)
            self.taken += 1
        self.reserved = count
        return copies

    def _writes_in_place(self, filled: int) -> bool:
        tail = self.tail
        return tail.owners == 1 and not tail.serial and max(tail.pins, default=0) <= filled

    def _own_tail(self) -> list[Copy]:
        """Make the tail writable past `length`, in place or by a copy.

        In place, what the block held past `length` (after truncate) is forgotten here and not at
        commit, so that nobody adopts slots which are about to be overwritten.
        """
        tail, filled = self.tail, self.length % self._size
        if self._writes_in_place(filled):
            del tail.tokens[filled:]
            return []
        target = self.pool.take()
        target.tokens = tail.tokens[:filled]
        self.pool.pin(tail, filled)
        self.blocks[-1] = target.id
        self.source, self.tail = tail, target
        self.taken += 1
        return [Copy(tail.id, target.id, filled)]

    def commit(self, tokens: Sequence[int]) -> None:
        """The step ran: its copies are made, and the keys and values of `tokens` are written.

        Counts them, publishes the blocks that became full and gives back blocks that were reserved
        and not used.
        """
        count = len(tokens)
        if self.reserved is None or count > self.reserved:
            raise CacheMisuse(f"commit of {count} tokens, {self.reserved or 0} reserved")
        record = self.tail.tokens
        # Again most of all calls: nothing was taken and no block fills up.
        if not self.taken and len(record) + count < self._size:
            record += tokens
            self.length += count
            self.reserved = None
            return
        self._commit(tokens)

    def _commit(self, tokens: Sequence[int]) -> None:
        if self.source is not None:
            self._keep_copy(self.source)
        start = 0
        while start < len(tokens):
            start += self._write(tokens, start)
        self._return_from(-(-self.length // self._size))
        self._end_step()

    def _keep_copy(self, source: Block) -> None:
        if source.parent is not None:
            parent = self._identity(self.length // self._size, PART)
            self.pool.index.expose(self.tail, parent)
        self.pool.unpin(source, self.length % self._size)
        self.pool.counters.copies += 1

    def _write(self, tokens: Sequence[int], start: int) -> int:
        """Record tokens from `start` on in the block at `length`; returns how many fitted in."""
        number, filled = divmod(self.length, self._size)
        block = self.pool.blocks[self.blocks[number]]
        chunk = tokens[start : start + self._size - filled]
        self.length += len(chunk)
        if filled + len(chunk) < self._size:
            if block.parent is None and self.pool.sharing:
                self.pool.index.expose(block, self._identity(number, PART))
            block.tokens += chunk
            self.tail = block
        else:
            self._fill(number, block, [*block.tokens, *chunk])
            self.tail = NOWHERE
        return len(chunk)

    def _fill(self, number: int, block: Block, tokens: list[int]) -> None:
        """Block `number` is full: publish it, or use the published block that equals it."""
        pool = self.pool
        if not pool.sharing:
            block.tokens = tokens
            return
        parent = self._identity(number, tokens)
        key = self._key_of(number, tokens)
        self._pass(number, tokens)
        twin = pool.index.find(key, parent, tokens)
        if twin is None:
            block.tokens = tokens
            block.maker = self.maker
            if public := self._public(number):
                block.public = public.on(tokens)
                block.maker = "public" if block.public else self.maker
            pool.publish(block, key, parent)
        else:
            pool.share(twin)
            pool.drop(block)
            self.blocks[number] = twin.id
            pool.counters.merged += 1

    def _key_of(self, number: int, tokens: list[int]) -> bytes:
        """The key of full block `number`, from the route as long as the table keeps to it."""
        route = self.route
        if route is not None and route.chunk(number) == tokens:
            return route.key(number)
        key, public = self._key_before(number), self._public(number)
        if public is not None and public.on(tokens) is None:
            key = self.pool.chain.enter(key, self.scope)
        return self.pool.chain.extend(key, tokens)

    def rollback(self) -> None:
        """The step failed: as if reserve had not been called. Outside a step, nothing.

        Two things do not come back: cached blocks that were evicted for the step, and what the
        block held past `length`, for the failed step may have written there.
        """
        if self.reserved is None:
            return
        source = self.source
        self._return_from(len(self.blocks) - self.taken + (source is not None))
        if source is not None:
            self.pool.drop(self.tail)
            self.pool.reclaim(source, self.length % self._size)
            self.blocks[-1] = source.id
            self.tail = source
        self._end_step()

    def _return_from(self, count: int) -> None:
        """Keep the first `count` blocks; the last goes first, and so before what it builds on."""
        while len(self.blocks) > count:
            self.pool.drop(self.pool.blocks[self.blocks.pop()])

    def _end_step(self) -> None:
        self.reserved, self.taken, self.source = None, 0, None

    # Sharing and giving up

    def fork(self) -> "BlockTable":
        """Another table of the same blocks, the partly filled tail too. Takes no block."""
        self._refuse_in_step("fork")
        child = BlockTable(self.pool, self.scope, self.maker)
        child.blocks = self.blocks.copy()
        child.length = self.length
        child.tail = self.tail
        blocks = self.pool.blocks
        for id in child.blocks:
            blocks[id].owners += 1
        return child

    def truncate(self, length: int) -> None:
        """Forget the tokens past `length`. Withdraws what was announced."""
        self._refuse_in_step("truncate")
        if not 0 <= length <= self.length:
            raise CacheMisuse(f"truncate({length}) of {self.length} tokens")
        self._withdraw()
        self._return_from(-(-length // self._size))
        self.length = length
        inside = length % self._size
        self.tail = self.pool.blocks[self.blocks[-1]] if inside else NOWHERE

    def release(self) -> None:
        """Give everything up, in a step or not. The table is then an empty one."""
        self.rollback()
        self.truncate(0)

    # What a table knows about its own path

    def _public(self, number: int) -> PublicPath | None:
        """The place before block `number`, if all before it is public."""
        pool = self.pool
        return pool.blocks[self.blocks[number - 1]].public if number else pool.public

    def _identity(self, number: int, tokens: Sequence[int]) -> Identity:
        """What stands before block `number`, which holds `tokens`."""
        pool = self.pool
        if not number:
            return before(PUBLIC, pool.public, self.scope, tokens)
        last = pool.blocks[self.blocks[number - 1]]
        if last.public is None:
            return last.serial
        return before(last.serial, last.public, self.scope, tokens)

    def _key_before(self, number: int) -> bytes:
        chain = self.pool.chain
        return self.pool.blocks[self.blocks[number - 1]].key if number else chain.start

    def _refuse_in_step(self, call: str) -> None:
        if self.reserved is not None:
            raise CacheMisuse(f"{call} in the middle of a step: commit or roll back first")

    def _refuse_shorter(self, tokens: Sequence[int]) -> None:
        """Refuse tokens that cannot be this table's: too few, or other ones in the tail."""
        filled = self.length % self._size
        start = self.length - filled
        tail = list(tokens[start : self.length])
        if len(tokens) < self.length or tail != self.tail.tokens[:filled]:
            raise CacheMisuse(f"other tokens than the {self.length} of this table")

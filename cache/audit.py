"""The laws of the bookkeeping, each one function, all checked in O(blocks + references + places),
but for sorting the cached blocks.

Reads the pool and the tables through two protocols and changes nothing. Recounts everything from
the tables and the blocks; believes no counter and no index. What the blocks truly contain it cannot
see: no tensor is here.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

from ramet.cache.block import Block, Identity, before
from ramet.cache.errors import AuditError
from ramet.cache.eviction import NEVER, EvictionOrder
from ramet.cache.hashing import KeyChain
from ramet.cache.plan import Place, Plan
from ramet.cache.prefix import PrefixIndex, Route
from ramet.cache.public import PUBLIC, Door, PublicPath


class Books(Protocol):
    """What an audit reads of a pool."""

    num_blocks: int
    block_size: int
    sharing: bool
    chain: KeyChain
    index: PrefixIndex
    public: PublicPath
    blocks: list[Block]
    free: list[int]
    cached: EvictionOrder
    plan: Plan


class Holder(Protocol):
    """What an audit reads of a table."""

    blocks: list[int]
    length: int
    scope: bytes
    reserved: int | None
    taken: int
    source: Block | None
    tail: Block
    route: Route | None

    @property
    def pool(self) -> object: ...


def audit(books: Books, tables: list[Holder]) -> None:
    """Raise AuditError for the first law that does not hold."""
    for law in LAWS:
        for detail in law(books, tables):
            raise AuditError(law.__name__.replace("_", " "), detail)


def tables_are_listed(books: Books, tables: list[Holder]) -> Iterator[str]:
    """Every table is of this pool, named once, and names blocks that exist."""
    if len({id(table) for table in tables}) < len(tables):
        yield "a table is listed twice"
    for table in tables:
        if table.pool is not books:
            yield "a table of another pool"
        if not all(0 <= id < books.num_blocks for id in table.blocks):
            yield f"an unknown block in {table.blocks}"
        if len(set(table.blocks)) < len(table.blocks):
            yield f"a block twice in {table.blocks}"


def states_are_distinct(books: Books, tables: list[Holder]) -> Iterator[str]:
    """Every block is free, held or cached, and in one state only."""
    del tables
    if len(books.blocks) != books.num_blocks:
        yield f"{len(books.blocks)} blocks instead of {books.num_blocks}"
    if not all(block.id == place for place, block in enumerate(books.blocks)):
        yield "a block is not in its place"
    free = set(books.free)
    if len(free) < len(books.free):
        yield "a block is in the free list twice"
    for block in books.blocks:
        held = block.owners > 0 or bool(block.pins)
        if (block.id in free) + held + (block.id in books.cached) != 1:
            yield f"{block}: free {block.id in free}, cached {block.id in books.cached}"
    if not all(0 <= id < books.num_blocks for id in books.cached):
        yield f"unknown blocks are cached: {[*books.cached]}"


def counts_are_references(books: Books, tables: list[Holder]) -> Iterator[str]:
    """A block's owners and pins are the tables and copies in flight that refer to it."""
    owners = Counter(id for table in tables for id in table.blocks)
    pins: dict[int, list[int]] = {}
    for table in tables:
        if table.source is not None:
            pins.setdefault(table.source.id, []).append(table.length % books.block_size)
    for block in books.blocks:
        expected = sorted(pins.get(block.id, []))
        if block.owners != owners[block.id] or sorted(block.pins) != expected:
            yield f"{block}: {owners[block.id]} tables, copies of {expected} slots"


def free_is_blank(books: Books, tables: list[Holder]) -> Iterator[str]:
    """A free block remembers nothing."""
    del tables
    for id in books.free:
        block = books.blocks[id]
        if block.tokens or block.parent is not None or block.serial or block.key or block.public:
            yield f"{block}"


def index_is_exact(books: Books, tables: list[Holder]) -> Iterator[str]:
    """A key leads to the published block that bears it, and what is cached is published."""
    del tables
    for key, block in books.index.keys.items():
        if block.key != key or not block.serial or books.blocks[block.id] is not block:
            yield f"{block} under a key that is not its own"
        if len(block.tokens) != books.block_size:
            yield f"{block} is published and not full"
    serials = [block.serial for block in books.blocks if block.serial]
    if len(set(serials)) < len(serials):
        yield "a serial was given twice"
    for block in map(books.blocks.__getitem__, books.cached):
        if not books.index.holds(block):
            yield f"{block} is cached and cannot be found"
    if not books.sharing and (books.index.keys or books.index.open or books.index.announced):
        yield "something can be found in a pool that does not share"


def keys_are_hashes(books: Books, tables: list[Holder]) -> Iterator[str]:
    """A published block's key is the hash of its parent's key and its tokens."""
    del tables
    keys: dict[Identity, bytes] = {b.serial: b.key for b in books.blocks if b.serial}
    keys[PUBLIC] = books.chain.start
    for block in books.index.keys.values():
        # A parent that was displaced may be gone; its children can then not be reached either.
        above = key_of(block.parent, keys, books)
        if above is not None and books.chain.extend(above, block.tokens) != block.key:
            yield f"{block}"


def key_of(parent: Identity | None, keys: dict[Identity, bytes], books: Books) -> bytes | None:
    """The key before the children of `parent`; kept in `keys` where it takes a walk."""
    if isinstance(parent, bytes):
        return books.chain.root(parent)
    if isinstance(parent, Door) and parent not in keys:
        for place, key in public_keys(books):
            keys[Door(place, parent.scope)] = books.chain.enter(key, parent.scope)
    return keys.get(parent or PUBLIC)


def public_keys(books: Books) -> Iterator[tuple[PublicPath, bytes]]:
    """Every place on a public path, with the key there."""
    found = [(books.public, books.chain.start)]
    for place, key in found:
        yield place, key
        found += [(on, books.chain.extend(key, list(chunk))) for chunk, on in place.ways()]


def children_are_exact(books: Books, tables: list[Holder]) -> Iterator[str]:
    """The children of a parent are its published blocks, in order, and its exposed open ones."""
    del tables
    index = books.index
    for parent, entries in index.sealed.items():
        for tokens, block in entries:
            if block.parent != parent or block.tokens is not tokens or not index.holds(block):
                yield f"{block} among the sealed children of {parent!r}"
        if not entries or any(left[0] >= right[0] for left, right in pairwise(entries)):
            yield f"the sealed children of {parent!r} are not in order"
    if sum(map(len, index.sealed.values())) != len(index.keys):
        yield "a published block is no child of its parent"
    for parent, siblings in index.open.items():
        for id, block in siblings.items():
            if block.parent != parent or block.serial or books.blocks[id] is not block:
                yield f"{block} among the open children of {parent!r}"
    exposed = sum(block.parent is not None and not block.serial for block in books.blocks)
    if sum(map(len, index.open.values())) != exposed or not all(index.open.values()):
        yield "an exposed block is no child of its parent"


def tables_are_paths(books: Books, tables: list[Holder]) -> Iterator[str]:
    """A table has the blocks for its tokens and no more, each full but the last, each the child of
    the one before."""
    size = books.block_size
    for table in tables:
        covered = table.length + (table.reserved or 0)
        if table.length < 0 or len(table.blocks) != -(-covered // size):
            yield f"{table.blocks} for {table.length} tokens and {table.reserved} reserved"
        serial, public = PUBLIC, books.public
        for number in range(-(-table.length // size)):
            block = books.blocks[table.blocks[number]]
            counted = min(table.length - number * size, size)
            if len(block.tokens) < counted:
                yield f"{block} counts for {counted} tokens"
            above = before(serial, public, table.scope, block.tokens)
            if books.sharing and not is_child(block, above, table):
                yield f"{block} after {above!r}"
            if books.sharing and counted == size and not block.serial:
                yield f"{block} is full and was never published"
            serial, public = block.serial, public and public.on(block.tokens)
            if books.sharing and counted == size and block.public is not public:
                yield f"{block} is public, and should not be, or the other way round"
        tail = books.blocks[table.blocks[table.length // size]] if table.length % size else None
        if table.tail is not tail and (tail is not None or table.tail.id >= 0):
            yield f"{table.tail} is not the tail of {table.blocks}"


def is_child(block: Block, above: Identity, table: Holder) -> bool:
    """True too for a copy's target, which becomes its parent's child when the step commits."""
    target = table.source is not None and block is table.tail
    return block.parent is None if target else block.parent == above


def public_is_declared(books: Books, tables: list[Holder]) -> Iterator[str]:
    """A published block is public if and only if its path was declared, and only a public one
    stands where all scopes look. An open one never is. What is expected is parted alike."""
    del tables
    known = {*books.public.walk()}
    behind: dict[Identity, PublicPath | None] = {b.serial: b.public for b in books.blocks}
    behind[PUBLIC] = books.public
    for block in books.blocks:
        parent = block.parent
        if isinstance(parent, Door) and (parent.place not in known or parent.place.is_start):
            yield f"{block} behind a door that is none"
        if not block.serial and (block.public or (parent is not None and behind.get(parent))):
            yield f"{block} is open, and public"
    for block in books.index.keys.values():
        parent = block.parent
        if isinstance(parent, bytes | Door):
            place = books.public if isinstance(parent, bytes) else parent.place
            if block.public or place.on(block.tokens):
                yield f"{block} stands behind a door, and is public"
        elif parent is not None and parent in behind:  # else it was displaced, and is gone
            place = behind[parent]
            if block.public is not (place and place.on(block.tokens)):
                yield f"{block} is public, and was not declared, or the other way round"
            if place and not block.public:
                yield f"{block} is private, and stands among what is public"
    for start in places_of(books.plan):
        if start.above is None and start.identity is not None:
            yield from misplaced(start, start.identity, books.public)


def misplaced(start: Place, identity: Identity, public: PublicPath) -> Iterator[str]:
    """What is expected in the tree from `start` on, and belongs into another one."""
    if identity != PUBLIC:
        public = identity.place if isinstance(identity, Door) else public
        if any(map(public.on, start.below)):
            yield f"something public is expected after {identity!r}"
        return
    pending = [(start, public)]
    for place, known in pending:
        for tokens, below in place.below.items():
            if (on := known.on(tokens)) is None:
                yield f"{tokens} is expected in public"
            else:
                pending.append((below, on))


def steps_are_private(books: Books, tables: list[Holder]) -> Iterator[str]:
    """What a step will write is counted by no table, read by no copy and cannot be found.

    A block's record ends where the writing starts, and no table counts more than is recorded.
    """
    size = books.block_size
    written: set[int] = set()
    for table in tables:
        if table.reserved is None and (table.taken or table.source is not None):
            yield f"{table.blocks}: something taken outside a step"
        first = table.length // size
        for number in range(first, len(table.blocks) if table.reserved else first):
            block = books.blocks[table.blocks[number]]
            start = max(table.length - number * size, 0)
            if block.serial or max(block.pins, default=0) > start or len(block.tokens) != start:
                yield f"{block} is written from slot {start} on"
            if block.id in written:
                yield f"{block} has two writers"
            written.add(block.id)


def announcements_are_live(books: Books, tables: list[Holder]) -> Iterator[str]:
    """What is announced is announced by a live table, and lies past its length."""
    said = Counter[tuple[int, bytes]]()
    for table in tables:
        if table.route is not None:
            said.update((id(table.route), key) for key in table.route.announced.values())
            if min(table.route.announced, default=table.length) < table.length // books.block_size:
                yield f"{sorted(table.route.announced)} announced at {table.length} tokens"
    noted = Counter[tuple[int, bytes]]()
    for key, routes in books.index.announced.items():
        noted.update((id(route), key) for route in routes)
        if not routes:
            yield "an empty announcement"
    if said != noted:
        yield f"{sum(said.values())} blocks announced, {sum(noted.values())} noted"


def places_are_a_tree(books: Books, tables: list[Holder]) -> Iterator[str]:
    """A place hangs under the one before it and is passed by no use that does not pass that one."""
    del tables
    found = list(places_of(books.plan))
    for place in found:
        passing = Counter(place.uses)
        further = Counter(use for below in place.below.values() for use in below.uses)
        if place.uses != sorted(place.uses) or (place.above is not None and not place.uses):
            yield f"the uses {place.uses} of {place.tokens}"
        if place.above is not None and further - passing:
            yield f"uses go on from {place.tokens} that did not come there: {further - passing}"
        if place.above is None and not place.below:
            yield "a start without a place"
        for tokens, below in place.below.items():
            if below.above is not place or below.tokens != tokens:
                yield f"{below.tokens} under {place.tokens}"
            if len(tokens) != books.block_size:
                yield f"{tokens} is no full block"
    count = sum(place.above is not None for place in found)
    if not count == books.plan.count <= books.plan.limit:
        yield f"{count} places, counted {books.plan.count}, at most {books.plan.limit}"
    if count and not books.sharing:
        yield "something is expected in a pool that does not share"


def places_find_blocks(books: Books, tables: list[Holder]) -> Iterator[str]:
    """A place is bound to the block that a lookup from the start would find there, if any."""
    del tables
    bound = 0
    for place in places_of(books.plan):
        above = place.above
        if above is None:
            bound += place.identity is not None
            continue
        block = None
        if above.identity is not None:
            block = books.index.child(above.identity, list(place.tokens))
        if place.block is not block or place.identity != (block and block.serial):
            yield f"{place.block} is bound at {place.tokens}, where {block} is found"
        bound += block is not None
    if bound != len(books.plan.places) or any(
        place.identity != identity for identity, place in books.plan.places.items()
    ):
        yield f"{bound} places are bound, {len(books.plan.places)} known"


def places_of(plan: Plan) -> Iterator[Place]:
    """All of them, those before the ones below; starts are always bound."""
    found = [place for place in plan.places.values() if place.above is None]
    for place in found:
        yield place
        found += place.below.values()


def turns_are_exact(books: Books, tables: list[Holder]) -> Iterator[str]:
    """The order of reuse is that of the plan, and what lies behind it is in order."""
    del tables
    yield from books.cached.faults()
    for rank, _, id in books.cached.turns():
        use = books.plan.next_use(books.blocks[id])
        if rank != (NEVER if use is None else -use):
            yield f"{books.blocks[id]} is used next at {use}, and stands at {rank}"


def descendants_go_first(books: Books, tables: list[Holder]) -> Iterator[str]:
    """A cached block is reused before the blocks it builds on."""
    del tables
    cached = [books.blocks[id] for id in books.cached]
    places = {block.serial: place for place, block in enumerate(cached)}
    for place, block in enumerate(cached):
        if isinstance(block.parent, int) and places.get(block.parent, place + 1) < place:
            yield f"{block} is reused after its parent"


LAWS = (
    tables_are_listed,
    states_are_distinct,
    counts_are_references,
    free_is_blank,
    index_is_exact,
    keys_are_hashes,
    children_are_exact,
    tables_are_paths,
    public_is_declared,
    steps_are_private,
    announcements_are_live,
    places_are_a_tree,
    places_find_blocks,
    turns_are_exact,
    descendants_go_first,
)

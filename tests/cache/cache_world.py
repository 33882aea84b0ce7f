"""A pool, its tables, a device that remembers what was truly written, and the model beside them.

Every method is one thing an engine does; `check` holds the invariants. The device remembers of each
slot what was written and for whom: of what another scope wrote, a table may read what is public.
With a cut hash the model, which knows no collisions, is left out; the audit and what the blocks
contain must still be right.
"""

import pytest
from cache_model import EVERYBODY, Model, Paths, Row, Text, Use
from xxhash import xxh3_128_digest

from ramet.cache import BlockPool, BlockTable, CacheMisuse, Copy, Expectation, OutOfBlocks
from ramet.cache.hashing import KeyChain

SEED = 7
Slot = tuple[int, bytes]  # the node, and the scope that wrote it
GARBAGE: Slot = -1, b"nobody"


class CutChain(KeyChain):
    """Keys of so few bits that they collide."""

    def __init__(self, bits: int) -> None:
        super().__init__(SEED, b"")
        self._bits = bits

    def enter(self, public: bytes, scope: bytes) -> bytes:
        return self._cut(super().enter(public, scope))

    def extend(self, parent: bytes, tokens: list[int]) -> bytes:
        return self._cut(super().extend(parent, tokens))

    def _cut(self, key: bytes) -> bytes:
        return bytes([key[0] & ((1 << self._bits) - 1)])


class World:
    def __init__(
        self,
        num_blocks: int,
        size: int,
        *,
        bits: int = 128,
        sharing: bool = True,
        places: int | None = None,
        public: list[list[int]] | None = None,
    ) -> None:
        """`places` is how many the plan may have, if not as many as it takes. `public` are prefixes
        that all scopes share."""
        self.pool = BlockPool(num_blocks, size, seed=SEED, fingerprint=b"toy", sharing=sharing)
        if places is not None:
            self.pool.plan.limit = places
        if bits < 128:
            self.pool.chain = CutChain(bits)
        self.public = public or []
        for tokens in self.public:
            assert self.pool.declare_public(tokens) == len(tokens) // size
        self.size = size
        self.paths = Paths(size, self.public)
        self.rows: list[Row] = []
        self.exact = bits == 128
        limit = self.pool.plan.limit
        self.model = Model(self.paths, self.rows, num_blocks, size, sharing, limit)
        self.expectations: list[tuple[Expectation, Use]] = []
        self.slots = [[GARBAGE] * size for _ in range(num_blocks)]
        self.keys: dict[Text, bytes] = {}

    # What an engine does

    def add(self, scope: bytes) -> Row:
        row = Row(BlockTable(self.pool, scope), scope)
        self.rows.append(row)
        return row

    def adopt(self, row: Row, suffix: list[int]) -> None:
        tokens = row.tokens + suffix
        length = row.table.adopt(tokens)
        assert len(row.tokens) <= length == row.table.length <= len(tokens)
        if self.exact:
            self.model.adopt(row, tokens)
        row.tokens = tokens[:length]
        row.nodes = self.paths.walk(row.tokens)

    def announce(self, row: Row, suffix: list[int]) -> None:
        row.table.announce(row.tokens + suffix)
        if self.exact:
            self.model.announce(row, row.tokens + suffix)

    def awaits(self, row: Row, suffix: list[int]) -> bool:
        said = row.table.awaits(row.tokens + suffix)
        if self.exact:
            assert self.model.may_await(row, row.tokens + suffix)[not said]
        return said

    def reserve(self, row: Row, count: int) -> bool:
        """False when there are too few blocks; then nothing may have changed."""
        before = self.snapshot()
        needed, available = row.table.blocks_needed(count), self.pool.available
        if self.exact:
            assert (needed, available) == (self.model.needed(row, count), self.model.available())
        if needed > available:
            with pytest.raises(OutOfBlocks) as caught:
                row.table.reserve(count)
            assert (caught.value.needed, caught.value.available) == (needed, available)
            assert self.snapshot() == before
            return False
        copies = row.table.reserve(count)
        assert self.pool.available == available - needed
        if self.exact:
            assert copies == self.model.reserve(row, count)
        row.wanted, row.copies = count, copies
        return True

    def copy(self, row: Row) -> None:
        """The device runs the copies of the row's step."""
        for source, target, tokens in row.copies:
            assert self.counted(target) == 0, "a copy over slots that someone counts"
            self.slots[target][:tokens] = self.slots[source][:tokens]

    def write(self, row: Row, nodes: list[int]) -> None:
        """The device writes past the row's length."""
        length = len(row.tokens)
        for place, node in enumerate(nodes, length):
            id, inside = row.table.blocks[place // self.size], place % self.size
            assert not self.pool.index.holds(self.pool.blocks[id]), "a write to a published block"
            assert self.counted(id) <= inside, "a write to a slot that someone counts"
            assert self.read(id) <= inside, "a write to a slot that a copy reads"
            self.slots[id][inside] = node, row.scope

    def counted(self, id: int) -> int:
        """Slots of the block that some table counts in its length."""
        return max(
            (
                min(len(row.tokens) - row.table.blocks.index(id) * self.size, self.size)
                for row in self.rows
                if id in row.table.blocks and not any(copy.target == id for copy in row.copies)
            ),
            default=0,
        )

    def read(self, id: int) -> int:
        """Slots of the block that copies in flight read."""
        copies = [copy for row in self.rows for copy in row.copies]
        return max((copy.tokens for copy in copies if copy.source == id), default=0)

    def commit(self, row: Row, tokens: list[int]) -> None:
        row.table.commit(tokens)
        row.wanted, row.copies = None, []
        if self.exact:
            self.model.commit(row, tokens)
        else:
            row.tokens += tokens
            row.nodes = self.paths.walk(row.tokens)

    def run(self, row: Row, tokens: list[int]) -> None:
        """A step that succeeds."""
        self.copy(row)
        self.write(row, self.paths.walk(row.tokens + tokens)[len(row.tokens) :])
        self.commit(row, tokens)

    def fail(self, row: Row, written: bool = True) -> None:
        """A step that breaks off, after it wrote rubbish into all it was given."""
        if written:
            self.copy(row)
            self.write(row, [GARBAGE[0]] * (row.wanted or 0))
        row.table.rollback()
        row.wanted, row.copies = None, []
        if self.exact:
            self.model.rollback(row)

    def fork(self, row: Row) -> Row:
        child = Row(
            row.table.fork(), row.scope, row.tokens.copy(), row.nodes.copy(), cells=row.cells.copy()
        )
        self.rows.append(child)
        return child

    def truncate(self, row: Row, length: int) -> None:
        row.table.truncate(length)
        if self.exact:
            self.model.truncate(row, length)
        else:
            del row.tokens[length:]
            del row.nodes[length:]

    def release(self, row: Row) -> None:
        """In a step or not; the row is gone."""
        row.table.release()
        if self.exact:
            self.model.rollback(row)
            self.model.truncate(row, 0)
        self.rows.remove(row)

    def clear(self) -> None:
        dropped = self.pool.clear()
        if self.exact:
            assert dropped == self.model.clear()

    def expect(self, scope: bytes, tokens: list[int], use: int) -> None:
        before = self.snapshot()[:4]
        expected = self.pool.expect(tokens, use, scope)
        self.expectations.append((expected, self.model.expect(scope, tokens, use)))
        if self.exact:
            assert len(expected.path) == len(self.expectations[-1][1].texts)
        assert self.snapshot()[:4] == before, "a hint changed more than the order"

    def drop(self, place: int) -> None:
        expectation, use = self.expectations.pop(place)
        expectation.drop()
        expectation.drop()
        self.model.expected.remove(use)

    def misuse(self, row: Row) -> None:
        """Every wrong call at this moment: a typed error, and nothing changed."""
        before = self.snapshot()
        table, tokens = row.table, row.tokens
        calls = [
            lambda: table.reserve(-1),
            lambda: table.commit([0] * ((row.wanted or 0) + 1)),
            lambda: table.truncate(len(tokens) + 1),
            lambda: table.truncate(-1),
        ]
        if row.wanted is None:
            calls.append(lambda: table.commit([]))
        else:
            calls += [lambda: table.reserve(1), table.fork, lambda: table.adopt(tokens)]
            calls.append(lambda: table.truncate(0))
        if tokens:
            calls.append(lambda: table.adopt(tokens[:-1]))
        for call in calls:
            with pytest.raises(CacheMisuse):
                call()
            assert self.snapshot() == before

    # What must hold

    def check(self) -> None:
        self.pool.audit([row.table for row in self.rows])
        for row in self.rows:
            assert row.table.length == len(row.tokens)
            self.check_reading(row)
            self.check_keys(row)
        if self.exact:
            self.check_model()

    def check_reading(self, row: Row) -> None:
        """The master oracle: a table reads its own text, and what others wrote only within the
        blocks of a public prefix."""
        slots = self.through(row)
        assert [node for node, _ in slots] == row.nodes, "a table reads what is not its text"
        others = [place for place, (_, scope) in enumerate(slots) if scope != row.scope]
        if others:
            assert others[-1] < self.open_to_all(row), "a table reads what another scope wrote"

    def open_to_all(self, row: Row) -> int:
        """How many of the row's tokens lie within the blocks of a public prefix."""
        lengths = [0]
        for tokens in self.public:
            whole = tokens[: len(tokens) // self.size * self.size]
            pairs = enumerate(zip(whole, row.tokens, strict=False))
            lengths.append(next((at for at, (a, b) in pairs if a != b), len(whole)))
        return max(lengths)

    def through(self, row: Row) -> list[Slot]:
        """What attention would read, a copy in flight counted as done."""
        blocks = row.table.blocks.copy()
        for copy in row.copies:
            blocks[blocks.index(copy.target)] = copy.source
        slots = [slot for id in blocks for slot in self.slots[id]]
        return slots[: len(row.tokens)]

    def check_keys(self, row: Row) -> None:
        """The keys of whole blocks, hashed here by the written rule."""
        if not self.exact or not self.pool.sharing:
            return
        above = xxh3_128_digest(b"toy", SEED)
        shared = True
        for number in range(len(row.tokens) // self.size):
            chunk = row.tokens[number * self.size : (number + 1) * self.size]
            text = self.paths.text(row.scope, row.nodes[(number + 1) * self.size - 1])
            if shared and text[0] == row.scope:
                shared, above = False, xxh3_128_digest(above + row.scope, SEED)
            if text not in self.keys:
                data = b"".join(token.to_bytes(8, "little") for token in chunk)
                self.keys[text] = xxh3_128_digest(above + data, SEED)
            above = self.keys[text]
            assert self.pool.blocks[row.table.blocks[number]].key == above

    def check_model(self) -> None:
        model, pool = self.model, self.pool
        for row in self.rows:
            assert row.table.blocks == [cell.id for cell in row.cells]
        assert set(pool.free) == model.free
        assert list(pool.cached) == [cell.id for cell in model.order()]
        found = {block.id for block in pool.index.keys.values()}
        assert found == {cell.id for cell in model.published.values()}
        for cell in model.published.values():
            assert self.nodes(cell.id) == cell.nodes, "a published block holds something else"
            assert (cell.mark == EVERYBODY) == (pool.blocks[cell.id].public is not None)
            above = [(mark, cell.start) for mark in (cell.mark, EVERYBODY)]
            assert cell.start is None or any(text in model.published for text in above)
        for cell in model.cells.values():
            if cell.exposed:
                assert self.nodes(cell.id)[: len(cell.nodes)] == cell.nodes
                assert len(pool.blocks[cell.id].tokens) == len(cell.nodes)
        stats = pool.stats()
        assert {name: getattr(stats, name) for name in model.counts} == model.counts
        assert (stats.free, stats.cached) == (len(model.free), len(model.lru))

    def nodes(self, id: int) -> list[int]:
        return [node for node, _ in self.slots[id]]

    def close(self) -> None:
        """Everything ends: every block comes back, and nothing can be found."""
        for row in self.rows.copy():
            self.release(row)
        self.check()
        assert self.pool.available == self.pool.num_blocks
        self.clear()
        assert len(self.pool.free) == self.pool.num_blocks
        index = self.pool.index
        assert not any((index.keys, index.sealed, index.open, index.announced))
        while self.expectations:
            self.drop(0)
        assert (self.pool.plan.count, self.pool.plan.places) == (0, {})

    def snapshot(self) -> tuple[object, ...]:
        """All that a refused call must leave alone."""
        pool = self.pool
        blocks = [(b.owners, *b.pins, *b.tokens, b.parent, b.serial, b.key) for b in pool.blocks]
        tables = [
            (*row.table.blocks, row.table.length, row.table.reserved, row.table.taken,
             row.table.tail.id, row.table.source and row.table.source.id)
            for row in self.rows
        ]  # fmt: skip
        cached = list(pool.cached)
        keys = list(pool.index.keys)
        return blocks, tables, pool.free.copy(), (keys, pool.stats()), cached


__all__ = ["SEED", "Copy", "CutChain", "Row", "World"]

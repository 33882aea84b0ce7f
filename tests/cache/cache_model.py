"""The block cache said again, slowly and by content: no hash, no serial, no counter of owners.

A *path node* is a number for (scope, all tokens up to and including this one); two equal nodes are
the same text of the same tenant. Everything here is looked up by node or recounted from the rows.
"""

from dataclasses import dataclass, field

from ramet.cache import BlockTable, Copy


class Paths:
    """Numbers for prefixes, and the tokens they end in."""

    def __init__(self) -> None:
        self._steps: dict[tuple[object, int], int] = {}

    def walk(self, scope: bytes, tokens: list[int]) -> list[int]:
        nodes: list[int] = []
        at: object = scope
        for token in tokens:
            at = self._steps.setdefault((at, token), len(self._steps))
            nodes.append(at)
        return nodes


@dataclass(eq=False)
class Cell:
    """A block that holds something or is about to. `start` is the node before it (or the scope)."""

    id: int
    start: object = None
    nodes: list[int] = field(default_factory=list[int])
    published: bool = False
    exposed: bool = False


@dataclass(eq=False)
class Row:
    """A sequence: the real table, the truth about its text, and the model's idea of its blocks."""

    table: BlockTable
    scope: bytes
    tokens: list[int] = field(default_factory=list[int])
    nodes: list[int] = field(default_factory=list[int])
    copies: list[Copy] = field(default_factory=list[Copy])
    wanted: int | None = None  # the reservation
    cells: list[Cell] = field(default_factory=list[Cell])
    source: Cell | None = None
    path: list[int] = field(default_factory=list[int])  # tokens on the announced path
    said: dict[int, int] = field(default_factory=dict[int, int])  # block number -> end node


@dataclass(eq=False)
class Use:
    """An expected use: the nodes at the ends of the full blocks that it will need."""

    when: int
    nodes: list[int]


class Model:
    """What a pool of `num_blocks` must do. Rows are the live ones, shared with the world."""

    def __init__(
        self, paths: Paths, rows: list[Row], num_blocks: int, size: int, sharing: bool, limit: int
    ) -> None:
        self.paths = paths
        self.rows = rows
        self.size = size
        self.sharing = sharing
        self.free = set(range(num_blocks))
        self.cells: dict[int, Cell] = {}
        self.lru: list[Cell] = []
        self.limit = limit
        self.expected: list[Use] = []
        self.published: dict[int, Cell] = {}
        self.counts = dict.fromkeys(
            ("queries", "hits", "published", "merged", "evicted", "copies", "displaced"), 0
        )

    # Blocks

    def references(self, cell: Cell) -> int:
        return sum(cell in row.cells for row in self.rows)

    def pins(self, cell: Cell) -> list[int]:
        return [len(row.nodes) % self.size for row in self.rows if row.source is cell]

    def take(self, id: int) -> Cell:
        """A blank cell; `id` is what the pool chose, and must be what it had to choose."""
        if self.free:
            self.free.remove(id)
        else:
            victim = self.order()[0]
            assert victim.id == id, "not the block whose turn it is"
            self.lru.remove(victim)
            del self.published[victim.nodes[-1]]
            del self.cells[id]
            self.counts["evicted"] += 1
        self.cells[id] = Cell(id)
        return self.cells[id]

    def settle(self, cell: Cell) -> None:
        """After somebody let go of it: perhaps nobody holds it now."""
        if self.references(cell) or self.pins(cell):
            return
        if cell.published:
            self.lru.append(cell)
        else:
            del self.cells[cell.id]
            self.free.add(cell.id)

    def hold(self, row: Row, number: int, cell: Cell) -> None:
        """Block `number` of the row is `cell` from now on."""
        if cell in self.lru:
            self.lru.remove(cell)
        if number == len(row.cells):
            row.cells.append(cell)
        elif row.cells[number] is not cell:
            old, row.cells[number] = row.cells[number], cell
            self.settle(old)

    def shrink(self, row: Row, count: int) -> None:
        while len(row.cells) > count:
            self.settle(row.cells.pop())

    # Expecting

    def expect(self, scope: bytes, tokens: list[int], when: int) -> Use:
        nodes = self.paths.walk(scope, tokens)[self.size - 1 :: self.size] if self.sharing else []
        use = Use(when, [])
        self.expected.append(use)
        for node in nodes:
            known = {node for use in self.expected for node in use.nodes}
            if node not in known and len(known) == self.limit:
                break
            use.nodes.append(node)
        return use

    def next_use(self, cell: Cell) -> float:
        node = cell.nodes[-1]
        return min((u.when for u in self.expected if node in u.nodes), default=float("inf"))

    def order(self) -> list[Cell]:
        """Cached cells: latest next use first, then the one given up first."""
        return sorted(self.lru, key=self.next_use, reverse=True)

    # Finding

    def adopt(self, row: Row, tokens: list[int]) -> None:
        """Follow what the table did, and hold it to the longest committed path."""
        before, nodes = len(row.nodes), self.paths.walk(row.scope, tokens)
        length = before
        if self.sharing:
            length = self._adopt_whole(row, nodes)
            length = self._adopt_part(row, nodes, length)
            self.counts["queries"] += len(tokens) - before
            self.counts["hits"] += length - before
        assert row.table.length == length, "not the longest committed path"
        row.nodes, row.tokens = nodes[:length], tokens[:length]

    def _adopt_whole(self, row: Row, nodes: list[int]) -> int:
        number = len(row.nodes) // self.size
        while (end := (number + 1) * self.size) <= len(nodes) and nodes[end - 1] in self.published:
            self.hold(row, number, self.published[nodes[end - 1]])
            self.passed(row, number, nodes[end - 1])
            number += 1
        return max(len(row.nodes), number * self.size)

    def _adopt_part(self, row: Row, nodes: list[int], length: int) -> int:
        number, filled = divmod(length, self.size)
        base = number * self.size
        start = nodes[base - 1] if base else row.scope
        chunk = nodes[base : base + self.size]
        runs = {
            cell: sum(one == other for one, other in zip(cell.nodes, chunk, strict=False))
            for cell in self.cells.values()
            if cell.start == start and (cell.published or cell.exposed)
        }
        best = max(runs.values(), default=0)
        if best <= filled:
            return length
        chosen = self.cells[row.table.blocks[number]]
        assert runs[chosen] == best, "not the longest beginning"
        if filled and runs[row.cells[number]] == best:
            assert chosen is row.cells[number], "the own tail is as good and costs no copy"
        self.hold(row, number, chosen)
        return base + best

    # Announcing

    def announce(self, row: Row, tokens: list[int]) -> None:
        if not self.sharing:
            return
        shared = min(len(row.path), len(tokens))
        if not row.said or row.path[:shared] != tokens[:shared]:
            row.said, row.path = {}, []
        row.path = max(row.path, tokens, key=len)
        nodes = self.paths.walk(row.scope, tokens)
        for number in range(len(row.nodes) // self.size, len(tokens) // self.size):
            row.said[number] = nodes[(number + 1) * self.size - 1]

    def may_await(self, row: Row, tokens: list[int]) -> tuple[bool, bool]:
        """(may say True, may say False) about the next full block."""
        number = len(row.nodes) // self.size
        end = (number + 1) * self.size
        if not self.sharing or end > len(tokens):
            return False, True
        node = self.paths.walk(row.scope, tokens)[end - 1]
        others = any(node in other.said.values() for other in self.rows if other is not row)
        return others, not others or node in row.said.values()

    def passed(self, row: Row, number: int, node: int) -> None:
        """The row has its block `number`, and it ends in `node`."""
        if row.said.get(number) == node:
            del row.said[number]
        else:
            row.said = {}

    # Steps

    def must_copy(self, row: Row) -> bool:
        filled = len(row.nodes) % self.size
        if not filled:
            return False
        tail = row.cells[-1]
        read = max(self.pins(tail), default=0)
        return self.references(tail) > 1 or tail.published or read > filled

    def needed(self, row: Row, count: int) -> int:
        whole = -(-(len(row.nodes) + count) // self.size)
        return whole - len(row.cells) + (count > 0 and self.must_copy(row))

    def available(self) -> int:
        return len(self.free) + len(self.lru)

    def reserve(self, row: Row, count: int) -> list[Copy]:
        """The copies that had to be asked for."""
        ids, filled, copies = row.table.blocks, len(row.nodes) % self.size, list[Copy]()
        if count and self.must_copy(row):
            target = self.take(ids[len(row.cells) - 1])
            row.source, row.cells[-1] = row.cells[-1], target
            target.start, target.nodes = row.source.start, row.source.nodes[:filled]
            copies.append(Copy(row.source.id, target.id, filled))
        elif count and filled:
            del row.cells[-1].nodes[filled:]
        row.cells += [self.take(id) for id in ids[len(row.cells) :]]
        return copies

    def commit(self, row: Row, tokens: list[int]) -> None:
        if row.source is not None:
            source, row.source = row.source, None
            row.cells[len(row.nodes) // self.size].exposed = self.sharing
            self.settle(source)
            self.counts["copies"] += 1
        row.tokens += tokens
        nodes = self.paths.walk(row.scope, row.tokens)
        for place in range(len(row.nodes), len(nodes)):
            number, inside = divmod(place, self.size)
            cell = row.cells[number]
            row.nodes.append(nodes[place])
            if inside + 1 == self.size:
                self._fill(row, number, nodes)
                continue
            if inside == 0:
                cell.start = nodes[place - 1] if place else row.scope
            # Blocks that are filled in one commit are never seen open.
            if self.sharing and (number + 1) * self.size > len(nodes):
                cell.exposed = True
            if (number + 1) * self.size > len(nodes) or not self.sharing:
                cell.nodes.append(nodes[place])
        self.shrink(row, -(-len(row.nodes) // self.size))

    def _fill(self, row: Row, number: int, nodes: list[int]) -> None:
        base = number * self.size
        chunk = nodes[base : base + self.size]
        cell = row.cells[number]
        twin = self.published.get(chunk[-1])
        if not self.sharing:
            cell.nodes = chunk
            return
        self.passed(row, number, chunk[-1])
        if twin is not None:
            self.hold(row, number, twin)
            self.counts["merged"] += 1
            return
        cell.start = nodes[base - 1] if base else row.scope
        cell.nodes, cell.published, cell.exposed = chunk, True, False
        self.published[chunk[-1]] = cell
        self.counts["published"] += 1

    def rollback(self, row: Row) -> None:
        self.shrink(row, -(-len(row.nodes) // self.size))
        if row.source is not None:
            target, row.cells[-1] = row.cells[-1], row.source
            row.source = None
            self.settle(target)

    # Sharing and giving up

    def truncate(self, row: Row, length: int) -> None:
        row.said = {}
        self.shrink(row, -(-length // self.size))
        del row.nodes[length:]
        del row.tokens[length:]

    def clear(self) -> int:
        dropped = len(self.lru)
        while self.lru:
            cell = self.lru.pop()
            del self.published[cell.nodes[-1]]
            del self.cells[cell.id]
            self.free.add(cell.id)
        return dropped

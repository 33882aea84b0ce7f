"""The block cache said again, slowly and by content: no hash, no serial, no counter of owners.

A *path node* is a number for all tokens up to and including one; two equal nodes are the same text.
A *mark* is whose it is: the scope, or everybody's if the block that it ends was declared public.
Everything here is looked up by both or recounted from the rows.
"""

from dataclasses import dataclass, field

from ramet.cache import BlockTable, Copy

EVERYBODY = "everybody"
Mark = bytes | str
Text = tuple[Mark, int]  # whose, and the node at its end


class Paths:
    """Numbers for prefixes, and which of them are public."""

    def __init__(self, size: int, public: list[list[int]]) -> None:
        self._steps: dict[tuple[object, int], int] = {}
        self.public: set[int] = set()
        for tokens in public:
            nodes = self.walk(tokens)
            whole = len(tokens) // size * size
            self.public.update(nodes[size - 1 : whole : size])

    def walk(self, tokens: list[int]) -> list[int]:
        nodes: list[int] = []
        at: object = None
        for token in tokens:
            at = self._steps.setdefault((at, token), len(self._steps))
            nodes.append(at)
        return nodes

    def text(self, scope: bytes, end: int) -> Text:
        """A full block that ends there, in a table of that scope."""
        return (EVERYBODY if end in self.public else scope), end


@dataclass(eq=False)
class Cell:
    """A block that holds something or is about to. `start` is the node before it, None at first."""

    id: int
    start: int | None = None
    nodes: list[int] = field(default_factory=list[int])
    mark: Mark | None = None  # of what can be found here
    published: bool = False
    exposed: bool = False

    @property
    def text(self) -> Text:
        assert self.mark is not None
        return self.mark, self.nodes[-1]


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
    said: dict[int, Text] = field(default_factory=dict[int, Text])  # by block number


@dataclass(eq=False)
class Use:
    """An expected use: the full blocks that it will need."""

    when: int
    texts: list[Text]


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
        self.published: dict[Text, Cell] = {}
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
            del self.published[victim.text]
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
        nodes = self.paths.walk(tokens)[self.size - 1 :: self.size] if self.sharing else []
        use = Use(when, [])
        self.expected.append(use)
        for node in nodes:
            known = {text for use in self.expected for text in use.texts}
            text = self.paths.text(scope, node)
            if text not in known and len(known) == self.limit:
                break
            use.texts.append(text)
        return use

    def next_use(self, cell: Cell) -> float:
        return min((u.when for u in self.expected if cell.text in u.texts), default=float("inf"))

    def order(self) -> list[Cell]:
        """Cached cells: latest next use first, then the one given up first."""
        return sorted(self.lru, key=self.next_use, reverse=True)

    # Finding

    def adopt(self, row: Row, tokens: list[int]) -> None:
        """Follow what the table did, and hold it to the longest committed path."""
        before, nodes = len(row.nodes), self.paths.walk(tokens)
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
        while (end := (number + 1) * self.size) <= len(nodes):
            text = self.paths.text(row.scope, nodes[end - 1])
            if text not in self.published:
                break
            self.hold(row, number, self.published[text])
            self.passed(row, number, text)
            number += 1
        return max(len(row.nodes), number * self.size)

    def _adopt_part(self, row: Row, nodes: list[int], length: int) -> int:
        number, filled = divmod(length, self.size)
        base = number * self.size
        start = nodes[base - 1] if base else None
        chunk = nodes[base : base + self.size]
        runs = {
            cell: sum(one == other for one, other in zip(cell.nodes, chunk, strict=False))
            for cell in self.cells.values()
            if cell.start == start
            and (cell.published or cell.exposed)
            and cell.mark in (row.scope, EVERYBODY)
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
        nodes = self.paths.walk(tokens)
        for number in range(len(row.nodes) // self.size, len(tokens) // self.size):
            row.said[number] = self.paths.text(row.scope, nodes[(number + 1) * self.size - 1])

    def may_await(self, row: Row, tokens: list[int]) -> tuple[bool, bool]:
        """(may say True, may say False) about the next full block."""
        number = len(row.nodes) // self.size
        end = (number + 1) * self.size
        if not self.sharing or end > len(tokens):
            return False, True
        text = self.paths.text(row.scope, self.paths.walk(tokens)[end - 1])
        others = any(text in other.said.values() for other in self.rows if other is not row)
        return others, not others or text in row.said.values()

    def passed(self, row: Row, number: int, text: Text) -> None:
        """The row has its block `number`, and it is that text."""
        if row.said.get(number) == text:
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
            target = row.cells[len(row.nodes) // self.size]
            target.exposed, target.mark = self.sharing, row.scope
            self.settle(source)
            self.counts["copies"] += 1
        row.tokens += tokens
        nodes = self.paths.walk(row.tokens)
        for place in range(len(row.nodes), len(nodes)):
            number, inside = divmod(place, self.size)
            cell = row.cells[number]
            row.nodes.append(nodes[place])
            if inside + 1 == self.size:
                self._fill(row, number, nodes)
                continue
            if inside == 0:
                cell.start = nodes[place - 1] if place else None
            # Blocks that are filled in one commit are never seen open.
            if self.sharing and (number + 1) * self.size > len(nodes):
                cell.exposed, cell.mark = True, row.scope
            if (number + 1) * self.size > len(nodes) or not self.sharing:
                cell.nodes.append(nodes[place])
        self.shrink(row, -(-len(row.nodes) // self.size))

    def _fill(self, row: Row, number: int, nodes: list[int]) -> None:
        base = number * self.size
        chunk = nodes[base : base + self.size]
        cell = row.cells[number]
        text = self.paths.text(row.scope, chunk[-1])
        twin = self.published.get(text)
        if not self.sharing:
            cell.nodes = chunk
            return
        self.passed(row, number, text)
        if twin is not None:
            self.hold(row, number, twin)
            self.counts["merged"] += 1
            return
        cell.start = nodes[base - 1] if base else None
        cell.nodes, cell.published, cell.exposed = chunk, True, False
        cell.mark = text[0]
        self.published[text] = cell
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
            del self.published[cell.text]
            del self.cells[cell.id]
            self.free.add(cell.id)
        return dropped

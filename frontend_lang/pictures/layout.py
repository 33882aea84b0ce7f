"""Where everything in a picture of a graph lies: no boxes overlap, none is wider than need be.

A lane is a column of cards. Where it forks, its branches lie beneath, side by side in rows of equal
columns, and its own spine goes on at the left of them. Three passes over the lanes, each in their
order or against it: what width a lane needs, what it gets, where it lies. Nothing recurses, and
the time is linear in nodes and references. Knows no colour and no SVG.
"""

from dataclasses import dataclass

from ramet.graph import Graph
from ramet.pictures.boxes import HEAD, PAD, Box, CardBox, Edge, Frame, LaneBox, Picture, Row
from ramet.pictures.cards import GAP as ROW_GAP, program_card, result_card, rows_of
from ramet.pictures.labels import label
from ramet.pictures.routes import keep_edges, reference_edges
from ramet.pictures.structure import Card, Group, Structure, TurnBegins, TurnEnds, structure
from ramet.pictures.wrap import printable

WIDTH = 800  # what a picture may take, unless forks nest too deep for it
MARGIN = 20
CARD_MIN, CARD_MAX, PROGRAM_MAX = 132, 300, 440
GAP = 12  # between what stands on a lane
COLUMN_GAP, ROW_OF_LANES_GAP = 14, 22
SPINE = 18  # from the left of a lane to the line between its cards
INDENT = 32  # from the left of a lane to its branches


@dataclass(frozen=True, slots=True)
class _Grid:
    """How a group of lanes is laid out."""

    columns: int
    cell: int  # the width of each lane, its padding included


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where one item of a lane begins, from the lane's top, and how high it is."""

    top: int
    height: int


def layout(graph: Graph) -> Picture:
    """The picture of a legal graph."""
    return _Layout(graph).picture()


class _Layout:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: Structure = structure(graph.nodes)
        lanes = self.found.lanes
        self.need = [CARD_MIN] * len(lanes)
        self.want = [PROGRAM_MAX] + [CARD_MAX] * (len(lanes) - 1)
        self.width = [0] * len(lanes)
        self.height = [0] * len(lanes)
        self.grids: dict[tuple[int, int], _Grid] = {}  # by lane and item
        self.rows: dict[tuple[int, int], tuple[Row, ...]] = {}
        self.spots: list[list[_Spot]] = [[] for _ in lanes]
        self.boxes: list[Box] = [Box(0, 0, 0, 0)] * len(lanes)
        self.areas: list[Frame | LaneBox] = []
        self.edges: list[Edge] = []
        self.cards: list[CardBox] = []

    def picture(self) -> Picture:
        order = range(len(self.found.lanes))
        for lane in reversed(order):
            self._measure(lane)
        self.width[0] = max(self.need[0], min(self.want[0], WIDTH - 2 * MARGIN))
        for lane in order:
            self._divide(lane)
        for lane in reversed(order):
            self._stack(lane)
        title = program_card(self.found, printable(self.graph.name), self.width[0])
        top = MARGIN + title.height + GAP
        self.boxes[0] = Box(MARGIN, top, self.width[0], self.height[0])
        self.cards.append(
            CardBox(Box(MARGIN, MARGIN, title.width, title.height), "program", title.rows)
        )
        for lane in order:
            self._place(lane)
        bottom = self._place_result(top + self.height[0])
        self.edges += keep_edges(self.found, self.cards, self.boxes)
        self.edges += reference_edges(self.found, self.cards, self.boxes)
        return Picture(
            self.width[0] + 2 * MARGIN,
            bottom + MARGIN,
            printable(self.graph.name),
            tuple(self.areas),
            tuple(self.edges),
            tuple(self.cards),
        )

    # -- widths

    def _measure(self, lane: int) -> None:
        """The least width a lane can have, and the most it has a use for."""
        for item in self.found.lanes[lane].items:
            if isinstance(item, Group):
                least = max(self.need[child] for child in item.lanes) + 2 * PAD
                most = max(self.want[child] for child in item.lanes) + 2 * PAD
                count = len(item.lanes)
                wide = count * most + (count - 1) * COLUMN_GAP
                self.need[lane] = max(self.need[lane], INDENT + least + PAD)
                self.want[lane] = min(max(self.want[lane], INDENT + wide + PAD), WIDTH)
        self.want[lane] = max(self.want[lane], self.need[lane])

    def _divide(self, lane: int) -> None:
        """Give each group columns as equal and as wide as there is room for."""
        room = self.width[lane] - INDENT - PAD
        for at, item in enumerate(self.found.lanes[lane].items):
            if isinstance(item, Group):
                least = max(self.need[child] for child in item.lanes) + 2 * PAD
                most = max(self.want[child] for child in item.lanes) + 2 * PAD
                fit = max(1, (room + COLUMN_GAP) // (least + COLUMN_GAP))
                rows = -(-len(item.lanes) // fit)
                columns = -(-len(item.lanes) // rows)
                cell = min(most, (room + COLUMN_GAP) // columns - COLUMN_GAP)
                self.grids[lane, at] = _Grid(columns, cell)
                for child in item.lanes:
                    self.width[child] = cell - 2 * PAD

    # -- heights

    def _stack(self, lane: int) -> None:
        """Where each item lies on its lane, and with that the lane's height."""
        y, framed = 0, False
        for at, item in enumerate(self.found.lanes[lane].items):
            match item:
                case Card(nodes):
                    rows = rows_of(nodes, self.found, self._card_width(lane, framed))
                    self.rows[lane, at] = rows
                    height = rows[-1].top + rows[-1].height + ROW_GAP
                    self.spots[lane].append(_Spot(y, height))
                    y += height + GAP
                case Group(lanes=lanes):
                    grid = self.grids[lane, at]
                    height = sum(
                        max(self._outer_height(child) for child in row) + ROW_OF_LANES_GAP
                        for row in _rows(lanes, grid.columns)
                    )
                    self.spots[lane].append(_Spot(y, height))
                    y += height + GAP // 2
                case TurnBegins():
                    self.spots[lane].append(_Spot(y, HEAD))
                    y += HEAD
                    framed = True
                case TurnEnds():
                    height = PAD - GAP if y and not self._just_opened(lane, at) else PAD
                    self.spots[lane].append(_Spot(y, height))
                    y += height + GAP
                    framed = False
        self.height[lane] = max(y - GAP, 0)

    def _just_opened(self, lane: int, at: int) -> bool:
        return isinstance(self.found.lanes[lane].items[at - 1], TurnBegins)

    def _card_width(self, lane: int, framed: bool) -> int:
        return self.width[lane] - (2 * PAD if framed else 0)

    def _outer_height(self, lane: int) -> int:
        return HEAD + self.height[lane] + (PAD if self.height[lane] else 0)

    # -- places

    def _place(self, lane: int) -> None:
        here, found = self.boxes[lane], self.found.lanes[lane]
        frame: tuple[int, TurnBegins] | None = None
        children: list[LaneBox] = []
        spine = here.y - (GAP if lane == 0 else 0)  # down to where the spine is drawn
        for at, (item, spot) in enumerate(zip(found.items, self.spots[lane], strict=True)):
            top = here.y + spot.top
            match item:
                case Card():
                    rows = self.rows[lane, at]
                    left = here.x + (PAD if frame else 0)
                    box = Box(left, top, self._card_width(lane, frame is not None), spot.height)
                    kind = rows[0].label.kind or "text"
                    self.cards.append(CardBox(box, kind, rows))
                    if top > spine and (at or lane == 0):
                        self._line("flow", (here.x + SPINE, spine), (here.x + SPINE, top))
                    spine = box.bottom
                case Group():
                    spine = self._place_group(lane, at, item, top, spine, children)
                case TurnBegins():
                    frame = (top, item)
                case TurnEnds(node):
                    assert frame is not None, "a turn ends that did not begin"
                    start, begun = frame
                    bottom = top + spot.height
                    box = Box(here.x, start, here.width, bottom - start)
                    self.areas.append(Frame(box, begun.role, begun.node, node))
                    frame = None
        self.areas += children

    def _place_group(
        self, lane: int, at: int, group: Group, top: int, spine: int, children: list[LaneBox]
    ) -> int:
        """Place the lanes of a group into `children`; gives how far down the spine is drawn."""
        here, grid = self.boxes[lane], self.grids[lane, at]
        kind = "flow" if group.kind == "branch" else "call"
        x, y = here.x + SPINE, top
        for row in _rows(group.lanes, grid.columns):
            rail, y = y - GAP + ROW_OF_LANES_GAP // 2, y - GAP + ROW_OF_LANES_GAP
            left = here.x + INDENT
            for child in row:
                outer = Box(left, y, grid.cell, self._outer_height(child))
                inner = Box(left + PAD, y + HEAD, self.width[child], self.height[child])
                self.boxes[child] = inner
                node = self.found.lanes[child].begin
                kept = self.found.lanes[child].kept
                children.append(LaneBox(outer, node, label(node, self.found), kept))
                self._line(kind, (left + SPINE, rail), (left + SPINE, y))
                left += grid.cell + COLUMN_GAP
            last = left - grid.cell - COLUMN_GAP + SPINE
            self._line(kind, (x, rail), (last, rail))
            self._line("flow", (x, spine), (x, rail))
            spine = rail
            y += max(self._outer_height(child) for child in row) + GAP
        return spine

    def _line(self, kind: str, start: tuple[int, int], end: tuple[int, int]) -> None:
        self.edges.append(Edge("call" if kind == "call" else "flow", (start, end)))

    def _place_result(self, bottom: int) -> int:
        if self.graph.result is None:
            return bottom
        card = result_card(self.graph.result, self.width[0])
        top = bottom + GAP
        self.cards.append(CardBox(Box(MARGIN, top, card.width, card.height), "return", card.rows))
        return top + card.height


def _rows(lanes: tuple[int, ...], columns: int) -> list[tuple[int, ...]]:
    return [lanes[at : at + columns] for at in range(0, len(lanes), columns)]

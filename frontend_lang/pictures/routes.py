"""The ways of the edges that leave a lane: references, and what `Keep` goes on with.

They run in the gaps: at the right of a lane, and above the card they lead to. Those that end at one
card share its last piece.
"""

from collections.abc import Sequence

from ramet.nodes import Keep
from ramet.pictures.boxes import HEAD, PAD, Box, CardBox, Edge, EdgeKind, Point
from ramet.pictures.structure import Card, Group, Lane, Structure, TurnBegins, TurnEnds

ASIDE = 5  # right of a card or a lane
ABOVE = 5  # over the card that an edge ends at
ENTRY = 24  # from the right of that card


class _Places:
    """Which card a node is drawn on, and how high on it."""

    def __init__(self, found: Structure, cards: Sequence[CardBox], lanes: Sequence[Box]) -> None:
        self.found = found
        self.lanes = lanes
        self.boxes = {row.node: card.box for card in cards for row in card.rows}
        self.middles = {
            row.node: card.box.y + row.top + row.height // 2 for card in cards for row in card.rows
        }
        self.groups = dict.fromkeys(found.inputs, 0)  # above each node, on its lane
        for lane in found.lanes:
            self._walk(lane)

    def _walk(self, lane: Lane) -> None:
        groups, last = 0, lane.begin
        self.groups[last] = 0
        for item in lane.items:
            match item:
                case Card(nodes):
                    self.groups.update(dict.fromkeys(nodes, groups))
                    last = nodes[-1]
                case Group():
                    groups += 1
                case TurnBegins(node=int(node)) | TurnEnds(node=int(node)) if last in self.boxes:
                    self.boxes[node], self.middles[node] = self.boxes[last], self.middles[last]
                case _:
                    pass

    def start(self, node: int) -> tuple[Box, int]:
        """The card of a node, and the height at which an edge leaves it.

        That of a turn's beginning or end is the card before it. Where there is none, on a lane that
        is only begun, its title takes the place.
        """
        if node in self.boxes:
            return self.boxes[node], self.middles[node]
        lane = self.lanes[self.found.lane_of[node]]
        return Box(lane.x, lane.y - HEAD, lane.width + PAD, HEAD), lane.y - HEAD // 2


def reference_edges(found: Structure, cards: Sequence[CardBox], lanes: Sequence[Box]) -> list[Edge]:
    """From each value to each text that it is a part of."""
    places = _Places(found, cards, lanes)
    return [_edge("reference", places, *pair) for pair in found.references()]


def keep_edges(found: Structure, cards: Sequence[CardBox], lanes: Sequence[Box]) -> list[Edge]:
    """From the end of each branch that is kept back into the lane that it was forked from."""
    places = _Places(found, cards, lanes)
    keeps = [(node.branch, id) for id, node in enumerate(found.nodes) if isinstance(node, Keep)]
    return [_edge("keep", places, *pair) for pair in keeps]


def _edge(kind: EdgeKind, places: _Places, source: int, target: int) -> Edge:
    from_box, y = places.start(source)
    to_box = places.boxes[target]
    entry = to_box.right - ENTRY
    over = to_box.y - ABOVE
    here, there = places.found.lane_of[source], places.found.lane_of[target]
    depths = [places.found.lanes[lane].depth for lane in (here, there)]
    if here == there and places.groups[source] == places.groups[target]:
        side = max(from_box.right, to_box.right) + ASIDE
        points = [(side, over), (side, y), (from_box.right, y)]
    elif depths[0] >= depths[1]:
        side = places.lanes[here].right + PAD + ASIDE
        points = [(side, over), (side, y), (from_box.right, y)]
    else:
        side = places.lanes[there].right + PAD + ASIDE
        under = from_box.bottom + ABOVE
        out = from_box.right - ENTRY
        points = [(side, over), (side, under), (out, under), (out, from_box.bottom)]
    return Edge(kind, tuple(_simple([(entry, to_box.y), (entry, over), *points])))


def _simple(points: Sequence[Point]) -> list[Point]:
    """Without points that come twice."""
    return [at for i, at in enumerate(points) if i == 0 or at != points[i - 1]]

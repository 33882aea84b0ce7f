"""A picture of a graph as SVG: one self-contained element, with no script and no outside font.

Hovering over anything shows it in full. Every text is escaped, and what XML cannot hold has been
made visible before.
"""

from collections.abc import Iterator
from hashlib import sha256
from xml.sax.saxutils import escape, quoteattr

from ramet.graph import Graph
from ramet.pictures.boxes import Box, CardBox, Edge, Frame, LaneBox, Picture, Point, Row
from ramet.pictures.cards import HEADING, HEADING_CELL, NOTE, PROMPT, SIDE, TITLE_CELL
from ramet.pictures.labels import tooltip
from ramet.pictures.layout import layout
from ramet.pictures.palette import DARK, LIGHT, Palette
from ramet.pictures.wrap import clipped, printable
from ramet.render import render_result
from ramet.verify import verify

SANS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
CORNER = 5  # radius where an edge turns


def svg(graph: Graph) -> str:
    """The graph as an SVG element; `GraphError` if it breaks a law."""
    verify(graph)
    return "\n".join(_Drawing(graph, layout(graph)).lines()) + "\n"


class _Drawing:
    def __init__(self, graph: Graph, picture: Picture) -> None:
        self.graph = graph
        self.picture = picture
        body = [*self._body()]
        # Ids and styles rule the whole page, so they are named by what is in the picture.
        self.id = f"ramet-{sha256(''.join(body).encode()).hexdigest()[:10]}"
        self.body = body

    def lines(self) -> Iterator[str]:
        id, width, height = self.id, self.picture.width, self.picture.height
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" id="{id}" role="img" '
            f'aria-labelledby="{id}-title {id}-desc" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" '
            'xml:space="preserve">'
        )
        yield f'<title id="{id}-title">{escape(f"Request graph of {self.picture.title}")}</title>'
        yield f'<desc id="{id}-desc">{escape(self._description())}</desc>'
        yield f"<style>{_styles(id)}</style>"
        yield from self.body
        yield "</svg>"

    def _description(self) -> str:
        kinds = [type(node).__name__.lower() for node in self.graph.nodes]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted({*kinds}))
        return f"{len(kinds)} nodes, from top to bottom: {counts}."

    def _body(self) -> Iterator[str]:
        picture = self.picture
        yield f'<rect class="page" width="{picture.width}" height="{picture.height}" rx="10"/>'
        for area in picture.areas:
            yield from self._lane(area) if isinstance(area, LaneBox) else self._frame(area)
        for edge in picture.edges:
            yield _edge(edge)
        yield from dict.fromkeys(_arrow(e) for e in picture.edges if e.kind in _ARROWS)
        for card in picture.cards:
            yield from self._card(card)

    def _lane(self, lane: LaneBox) -> Iterator[str]:
        kind = f"{lane.label.kind} kept" if lane.kept else lane.label.kind
        yield f'<g class="lane {kind}" data-node="{lane.node}">{self._title(lane.node)}'
        yield _rect(lane.box, 8)
        room = int((lane.box.width - 2 * SIDE) / TITLE_CELL)
        told = f"{'kept ' if lane.kept else ''}{lane.label.kind} {lane.label.name}"
        yield _text(lane.box.x + 10, lane.box.y + 14, "title", clipped(told, room))
        yield "</g>"

    def _frame(self, frame: Frame) -> Iterator[str]:
        box = frame.box
        node = "" if frame.opened is None else f' data-node="{frame.opened}"'
        yield f'<g class="frame"{node}>{self._title(frame.opened)}{_rect(box, 8)}'
        told = frame.role if frame.opened is not None else f"{frame.role}, going on"
        yield f"{_text(box.x + 28, box.y + 14, 'title', told)}</g>"
        if frame.closed is not None:
            line = f'<path d="M{box.x + 8} {box.bottom}H{box.right - 8}"/>'
            title = self._title(frame.closed)
            yield f'<g class="close" data-node="{frame.closed}">{title}{line}</g>'

    def _card(self, card: CardBox) -> Iterator[str]:
        box = card.box
        yield f'<g class="card {card.kind}">{_rect(box, 6)}'
        yield f'<path class="bar" d="{_bar(box)}"/>'
        for at, row in enumerate(card.rows):
            if at:
                y = box.y + row.top - 3
                yield f'<path class="rule" d="M{box.x + SIDE} {y}H{box.right - SIDE}"/>'
            yield from self._row(box, row)
        yield "</g>"

    def _row(self, box: Box, row: Row) -> Iterator[str]:
        node = "" if row.node < 0 else f' data-node="{row.node}"'
        title = self._title(row.node if row.node >= 0 else None, row)
        yield f"<g{node}>{title}"
        top = box.y + row.top
        yield (
            f'<rect class="hit" x="{box.x}" y="{top}" width="{box.width}" height="{row.height}"/>'
        )
        left, y = box.x + SIDE, top
        if row.label.kind:
            mark = f"%{row.node}" if row.node > 0 else ""
            room = int((box.width - 2 * SIDE) / HEADING_CELL) - len(row.label.kind) - len(mark) - 2
            name = clipped(row.label.name, max(room, 1))
            yield (
                f'<text class="head" x="{left}" y="{y + 13}">{escape(row.label.kind)}'
                f'<tspan class="name" dx="6">{escape(name)}</tspan></text>'
            )
            if mark:
                yield _text(box.right - 10, y + 13, "mark", mark)
            y += HEADING
        step = PROMPT if row.style == "prompt" else NOTE
        for at, line in enumerate(row.lines):
            yield _text(left, y + 11 + at * step, row.style, line)
        yield "</g>"

    def _title(self, node: int | None, row: Row | None = None) -> str:
        if node is None:
            if row is None:
                return ""
            told = f"return {printable(render_result(self.graph.result))}"
        elif node == 0:
            told = f"program {self.picture.title}"
        else:
            told = tooltip(node, self.graph.nodes)
        return f"<title>{escape(told)}</title>"


_ARROWS = ("reference", "keep")


def _rect(box: Box, radius: int) -> str:
    at = f'x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}"'
    return f'<rect {at} rx="{radius}"/>'


def _bar(box: Box) -> str:
    high = box.height - 12
    return f"M{box.x + 6} {box.y}h-1a5 6 0 0 0-5 6v{high}a5 6 0 0 0 5 6h1q-2-1-2-6v-{high}q0-5 2-6z"


def _text(x: int, y: int, style: str, text: str) -> str:
    return f'<text class={quoteattr(style)} x="{x}" y="{y}">{escape(text)}</text>'


def _edge(edge: Edge) -> str:
    return f'<path class="to-{edge.kind}" d="{_path(edge.points)}"/>'


def _arrow(edge: Edge) -> str:
    x, y = edge.points[0]
    return f'<path class="arrow-{edge.kind}" d="M{x} {y}l-3-5h6z"/>'


def _path(points: tuple[Point, ...]) -> str:
    """Straight pieces with rounded corners between them."""
    words = [f"M{points[0][0]} {points[0][1]}"]
    for before, at, after in zip(points, points[1:], points[2:], strict=False):
        near, far = _toward(at, before), _toward(at, after)
        words.append(f"L{near[0]} {near[1]}Q{at[0]} {at[1]} {far[0]} {far[1]}")
    return "".join([*words, f"L{points[-1][0]} {points[-1][1]}"])


def _toward(start: Point, end: Point) -> Point:
    """A little way along a straight piece, half of it at most."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    step = min(CORNER, (abs(dx) + abs(dy)) // 2)
    return start[0] + step * _sign(dx), start[1] + step * _sign(dy)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _styles(id: str) -> str:
    shapes = (
        f"@media screen{{#{id}{{max-width:100%;height:auto}}}}"
        f"#{id} text{{font:11px {MONO};white-space:pre}}"
        f"#{id} .head,#{id} .title{{font:600 12px {SANS}}}"
        f"#{id} .title{{font-size:11.5px}}"
        f"#{id} .name{{font:600 12px {MONO}}}"
        f"#{id} .note,#{id} .mark{{font-size:10px}}"
        f"#{id} .mark{{text-anchor:end}}"
        f"#{id} path{{fill:none;stroke-width:1.25}}"
        f"#{id} .to-reference{{stroke-dasharray:3 3;stroke-width:1}}"
        f"#{id} .to-call{{stroke-dasharray:6 3}}"
        f"#{id} .to-keep{{stroke-width:2}}"
        f"#{id} .card .hit{{fill-opacity:0;stroke-opacity:0}}"
    )
    dark = f"@media (prefers-color-scheme:dark){{{_colours(id, DARK)}}}"
    return f"{shapes}{_colours(id, LIGHT)}{dark}"


def _colours(id: str, palette: Palette) -> str:
    fills = {
        ".page": palette.page,
        ".lane rect": palette.lane,
        ".frame rect": palette.frame,
        ".card rect": palette.card,
        "text": palette.text,
        ".note": palette.note,
        ".mark": palette.note,
        ".title": palette.note,
        ".kept .title": palette.keep,
        ".arrow-reference": palette.reference,
        ".arrow-keep": palette.keep,
    }
    strokes = {
        ".lane rect": palette.outline,
        ".frame rect": palette.outline,
        ".card rect": palette.outline,
        ".rule": palette.outline,
        ".close path": palette.outline,
        ".to-flow": palette.flow,
        ".to-call": palette.flow,
        ".to-reference": palette.reference,
        ".to-keep": palette.keep,
        ".kept rect": palette.keep,
    }
    for kind, colour in palette.kinds.items():
        fills[f".{kind} .head"] = colour
        fills[f".{kind} .bar"] = colour
    rules = [f"#{id} {where}{{fill:{colour}}}" for where, colour in fills.items()]
    rules += [f"#{id} {where}{{stroke:{colour}}}" for where, colour in strokes.items()]
    return "".join(rules)

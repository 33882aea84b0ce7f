"""Pictures of graphs: nothing overlaps, nothing is lost, nothing a text says gets out of it."""

import gc
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from itertools import combinations
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings, strategies as st

from ramet.codec import from_json, to_json
from ramet.errors import GraphError
from ramet.graph import Graph, Ref
from ramet.nodes import (
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Input,
    Keep,
    Node,
    Open,
    Result,
    Root,
    Sample,
    Text,
)
from ramet.params import SamplingParams
from ramet.pictures import mermaid, svg
from ramet.pictures.boxes import HEAD, Box, Frame, LaneBox, Picture
from ramet.pictures.cards import NOTE_CELL, PROMPT_CELL, SIDE
from ramet.pictures.layout import MARGIN, WIDTH, layout
from ramet.pictures.palette import DARK, LIGHT, Palette
from ramet.pictures.wrap import cells, clipped, printable, wrapped
from tests.frontend_lang.graphs import graphs

ROOT = Path(__file__).parent.parent.parent
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</svg><script>alert(1)</script>]]>&amp;\"'\x00\x1b\ufffe\u202e%%{init}`#;"


def touch(one: Box, other: Box) -> bool:
    return (
        one.x < other.right
        and other.x < one.right
        and one.y < other.bottom
        and other.y < one.bottom
    )


def holds(outer: Box, inner: Box) -> bool:
    return (
        outer.x <= inner.x
        and inner.right <= outer.right
        and outer.y <= inner.y
        and inner.bottom <= outer.bottom
    )


def check_places(picture: Picture) -> None:
    cards = [card.box for card in picture.cards]
    areas = [area.box for area in picture.areas]
    page = Box(0, 0, picture.width, picture.height)
    for one, other in combinations(cards, 2):
        assert not touch(one, other)
    for at, area in enumerate(areas):
        for later in areas[at + 1 :]:
            assert not touch(area, later) or holds(area, later)
        for card in cards:
            assert not touch(area, card) or holds(area, card)
    for card in picture.cards:
        for above, below in zip(card.rows, card.rows[1:], strict=False):
            assert above.top + above.height < below.top
        assert card.rows[-1].top + card.rows[-1].height <= card.box.height
        for row in card.rows:
            cell = PROMPT_CELL if row.style == "prompt" else NOTE_CELL
            for line in row.lines:
                assert cells(line) * cell <= card.box.width - 2 * SIDE
    for box in (*cards, *areas):
        assert holds(page, box)
        assert box.width > 0
        assert box.height > 0
    for edge in picture.edges:
        assert all(0 <= x <= page.width and 0 <= y <= page.height for x, y in edge.points)


@settings(max_examples=60, deadline=None)
@given(graphs(size=25))
def test_no_boxes_overlap(graph: Graph) -> None:
    check_places(layout(graph))


@settings(max_examples=60, deadline=None)
@given(graphs(size=20))
def test_every_node_is_drawn_once_in_well_formed_xml(graph: Graph) -> None:
    drawing = svg(graph)
    root = ET.fromstring(drawing)
    found = sorted(int(of) for e in root.iter() if (of := e.get("data-node")) is not None)
    assert found == list(range(len(graph.nodes)))
    assert svg(from_json(to_json(graph))) == drawing


@settings(max_examples=60, deadline=None)
@given(graphs(size=20))
def test_a_flowchart_is_balanced_and_its_edges_end_at_nodes(graph: Graph) -> None:
    chart = mermaid(graph)
    assert mermaid(from_json(to_json(graph))) == chart
    lines = [line.strip() for line in chart.splitlines()]
    depth = 0
    for line in lines:
        depth += line.startswith("subgraph ") - (line == "end")
        assert depth >= 0
    assert depth == 0
    made = re.findall(r"^(n\d+|result)[\[({]", "\n".join(lines), re.M)
    assert len(made) == len({*made})
    edges = [m for line in lines if (m := re.fullmatch(r"(\w+) (?:-->|-\.->|==>) (\w+)", line))]
    assert {end for edge in edges for end in edge.groups()} <= {*made}
    for line in lines:
        for text in re.findall(r'"(.*)"', line):
            assert not re.search(r'["`%{}\[\]<>&|\\]', text)


def turns(*nodes: Node, result: Result = None) -> Graph:
    return Graph("p", (Root(), *nodes), result)


def test_a_turn_is_a_frame_around_its_nodes_and_neighbouring_texts_are_one_card() -> None:
    picture = layout(
        turns(Open(0, "user"), Text(1, ("a",)), Text(2, ("b",)), Close(3, "user"), Gen(4, "x"))
    )
    (frame,) = picture.areas
    assert isinstance(frame, Frame)
    assert (frame.role, frame.opened, frame.closed) == ("user", 1, 4)
    program, texts, gen = picture.cards
    assert [row.node for row in texts.rows] == [2, 3]
    assert holds(frame.box, texts.box)
    assert texts.box.y - frame.box.y >= HEAD  # room for its title
    assert not touch(frame.box, gen.box)
    assert program.box.bottom < frame.box.y < gen.box.y


FORKED = (Fork(0, 2), Branch(1, 0), Branch(1, 1), Gen(2, "a"), Gen(3, "b"))


def test_branches_are_side_by_side_under_their_fork_and_above_what_follows() -> None:
    graph = turns(*FORKED, Text(1, ("x", Ref(4), Ref(5, "prob"))))
    picture = layout(graph)
    left, right = [area.box for area in picture.areas if isinstance(area, LaneBox)]
    fork, text = [c.box for c in picture.cards if {r.node for r in c.rows} & {1, 6}]
    assert left.y == right.y
    assert left.right < right.x
    assert fork.bottom < left.y < max(left.bottom, right.bottom) < text.y
    (row,) = next(card.rows for card in picture.cards if card.box == text)
    assert row.lines == ("x«a»«b.prob»",)
    references = [edge for edge in picture.edges if edge.kind == "reference"]
    assert len(references) == 2
    assert svg(graph).count('class="arrow-reference"') == 1  # they share their last piece
    for edge, source in zip(references, (4, 5), strict=True):
        box = next(c.box for c in picture.cards if c.rows[0].node == source)
        assert edge.points[0][1] == text.y  # the arrow's point
        assert edge.points[-1][0] == box.right


def test_what_is_kept_leads_back_into_the_lane() -> None:
    picture = layout(turns(*FORKED, Keep(1, 5)))
    (edge,) = [edge for edge in picture.edges if edge.kind == "keep"]
    keep = picture.cards[1 + 1]
    kept = [area.node for area in picture.areas if isinstance(area, LaneBox) and area.kept]
    assert keep.rows[0].label.name == "branch 1"
    assert edge.points[0][1] == keep.box.y
    assert kept == [3]
    assert "n5 ==> n6" in mermaid(turns(*FORKED, Keep(1, 5)))


def test_a_kept_branch_ends_and_goes_on_with_turns() -> None:
    nodes = (
        Open(0, "user"), Fork(1, 1), Branch(2, 0), Close(3, "user"), Open(4, "assistant"),
        Text(5, ("a",)), Keep(2, 6), Text(7, ("b",)), Close(8, "assistant"),
    )  # fmt: skip
    picture = layout(turns(*nodes))
    frames = [(f.role, f.opened, f.closed) for f in picture.areas if isinstance(f, Frame)]
    assert frames == [("user", 1, None), ("assistant", None, 9), ("assistant", 5, None)]
    check_places(picture)
    (kept,) = [edge for edge in picture.edges if edge.kind == "keep"]
    (last,) = [card.box for card in picture.cards if card.rows[0].node == 6]
    assert kept.points[-1] == (last.right, last.y + last.height // 2)


def test_what_a_turn_ended_with_is_what_is_kept() -> None:
    nodes = (
        Fork(0, 1),
        Branch(1, 0),
        Open(2, "user"),
        Text(3, ("a",)),
        Close(4, "user"),
        Keep(1, 5),
    )
    picture = layout(turns(*nodes))
    (kept,) = [edge for edge in picture.edges if edge.kind == "keep"]
    (last,) = [card.box for card in picture.cards if card.rows[0].node == 4]
    assert kept.points[-1][0] == last.right
    assert last.y < kept.points[-1][1] < last.bottom
    assert "n4 ==> n6" in mermaid(turns(*nodes))


def test_a_turn_without_anything_in_it() -> None:
    graph = turns(Open(0, "user"), Close(1, "user"), Gen(2, "x"))
    (frame,) = layout(graph).areas
    assert frame.box.height > HEAD
    assert "subgraph" not in mermaid(graph)
    assert "n0 --> n3" in mermaid(graph)


def test_a_call_is_apart_and_inputs_stand_at_the_head() -> None:
    nodes = (
        Input("topic"),
        Text(0, ("a",)),
        Call(2, "other"),
        Gen(3, "o"),
        Text(2, (Ref(4), Ref(1))),
    )
    picture = layout(Graph("p", (Root(), *nodes)))
    (call,) = picture.areas
    assert isinstance(call, LaneBox)
    assert (call.label.kind, call.label.name) == ("call", "other")
    assert [row.node for row in picture.cards[0].rows] == [0, 1]
    assert any(edge.kind == "call" for edge in picture.edges)
    chart = mermaid(Graph("p", (Root(), *nodes)))
    assert "n2 -.-> n3" in chart
    assert "n1 -.-> n5" in chart


def test_a_branch_of_a_sample_bears_its_name() -> None:
    params = SamplingParams(n=2, temperature=1)
    nodes = (Sample(0, "plan", params), Branch(1, 1), Text(2, (Ref(2),)))
    (lane,) = layout(turns(*nodes)).areas
    assert isinstance(lane, LaneBox)
    assert lane.label.name == "1 · plan"
    assert "«plan»" in svg(turns(*nodes))


def test_hostile_texts_stay_texts() -> None:
    nodes = (Open(0, "user"), Text(1, (HOSTILE,)), Close(2, "user"), Call(3, HOSTILE), Gen(4, "x"))
    graph = Graph(HOSTILE, (Root(), *nodes), HOSTILE)
    drawing = svg(graph)
    tags = {element.tag.removeprefix(SVG) for element in ET.fromstring(drawing).iter()}
    assert tags <= {"svg", "title", "desc", "style", "rect", "g", "path", "text", "tspan"}
    assert "&lt;/svg&gt;&lt;script&gt;" in drawing
    assert "<script" not in drawing
    assert "\u202e" not in drawing
    titles = [e.text or "" for e in ET.fromstring(drawing).iter(f"{SVG}title")]
    assert f"%2 text\n{printable(HOSTILE)}" in titles
    chart = mermaid(graph)
    assert "script#62;" in chart
    assert not re.search(r"[<`]|%%|\u202e|\x00", chart)


def test_the_whole_text_is_in_the_tooltip_and_a_few_lines_on_the_card() -> None:
    text = "many words " * 500
    graph = turns(Text(0, (text,)))
    assert text in "".join(e.text or "" for e in ET.fromstring(svg(graph)).iter(f"{SVG}title"))
    (row,) = layout(graph).cards[1].rows
    assert len(row.lines) == 5
    assert row.lines[-1].endswith("…")


def test_it_can_be_read_aloud() -> None:
    root = ET.fromstring(svg(turns(Gen(0, "x"))))
    title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert desc is not None
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert title.text == "Request graph of p"
    assert desc.text == "2 nodes, from top to bottom: 1 gen, 1 root."


def test_styles_rule_this_picture_alone() -> None:
    one, other = svg(turns(Gen(0, "x"))), svg(turns(Gen(0, "y")))
    ids = [ET.fromstring(drawing).get("id") for drawing in (one, other)]
    assert ids[0] != ids[1]
    style = ET.fromstring(one).findtext(f"{SVG}style") or ""
    rules = re.sub(r"@media[^{]*\{", "", style)
    selectors = [part for rule in re.findall(r"([^{}]+)\{", rules) for part in rule.split(",")]
    assert selectors
    assert all(selector.startswith(f"#{ids[0]}") for selector in selectors)
    assert "url(" not in style
    assert "@import" not in style


def test_a_notebook_shows_the_drawing() -> None:
    graph = turns(Gen(0, "x"))
    assert graph._repr_svg_() == svg(graph)


@pytest.mark.parametrize("draw", [svg, mermaid])
def test_an_illegal_graph_is_refused(draw: Callable[[Graph], str]) -> None:
    with pytest.raises(GraphError, match="state_is_earlier"):
        draw(turns(Gen(5, "x")))


# -- sizes


def agent(size: int) -> Graph:
    nodes: list[Node] = [Root()]
    for _ in range(size):
        at = len(nodes) - 1
        nodes += [Open(at, "user"), Text(at + 1, ("do",)), Close(at + 2, "user"), Gen(at + 3, "x")]
    return Graph("agent", tuple(nodes))


def wide(size: int) -> Graph:
    nodes: list[Node] = [Root(), Fork(0, size), *(Branch(1, index) for index in range(size))]
    nodes += [Gen(2 + index, "x") for index in range(size)]
    nodes.append(Text(1, tuple(Ref(2 + size + index) for index in range(size))))
    return Graph("wide", tuple(nodes))


def deep(size: int) -> Graph:
    nodes: list[Node] = [Root()]
    for _ in range(size):
        at = len(nodes) - 1
        nodes += [Gen(at, "x"), Fork(at + 1, 2), Branch(at + 2, 1), Branch(at + 2, 0)]
    return Graph("deep", tuple(nodes))


def called(size: int) -> Graph:
    return Graph("called", (Root(), *(Call(at, "p") for at in range(size))))


def texts(size: int) -> Graph:
    return Graph("texts", (Root(), *(Text(at, ("word " * 20,)) for at in range(size))))


def calls_made(work: Callable[[], object]) -> int:
    """How many functions, built-in ones too, are called for it."""
    count = 0

    def see(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # others are told of a collection, which are calls too
    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


@pytest.mark.parametrize("draw", [svg, mermaid])
@pytest.mark.parametrize("shape", [agent, wide, deep, called, texts])
def test_the_work_is_linear(shape: Callable[[int], Graph], draw: Callable[[Graph], str]) -> None:
    small, large = shape(50), shape(200)
    once = calls_made(lambda: draw(small))
    assert calls_made(lambda: draw(large)) < 4.4 * once


@pytest.mark.parametrize("shape", [deep, called])
def test_nothing_recurses(shape: Callable[[int], Graph]) -> None:
    graph = shape(2_000)
    check = ET.XMLParser()
    check.feed(svg(graph))
    assert check.close() is not None
    assert mermaid(graph).count("subgraph lane") == sum(
        isinstance(node, Branch | Call) for node in graph.nodes
    )


def test_deep_forks_overlap_nothing() -> None:
    check_places(layout(deep(12)))


def test_a_wide_fork_keeps_to_the_width() -> None:
    for graph in (wide(8), wide(64), agent(3), texts(3)):
        assert layout(graph).width <= WIDTH
    assert layout(turns(Gen(0, "x"))).width < WIDTH - 4 * MARGIN


# -- texts


@given(st.text(max_size=80), st.integers(4, 30), st.integers(1, 5))
def test_lines_are_short_and_few(text: str, width: int, limit: int) -> None:
    text = printable(text)
    lines = wrapped(text, width, limit)
    assert len(lines) <= limit
    assert all(cells(line) <= width for line in lines)
    assert cells(clipped(text, width)) <= max(width, 1)


@given(st.text("ab \n", max_size=60))
def test_wrapping_loses_only_spaces(text: str) -> None:
    lines = wrapped(text, 7, 100)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\n", "↵")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three", ["one two", "three"]),
        ("\nA:\n\nB", ["↵A:↵↵", "B"]),
        ("abcdefghijklmnop", ["abcdefgh", "ijklmnop"]),
        ("一二三四五六", ["一二三四", "五六"]),
        ("👩‍👩‍👧‍👦🇩🇪👍🏽", ["👩‍👩‍👧‍👦🇩🇪", "👍🏽"]),
        ("e\u0301" * 9, ["e\u0301" * 8, "e\u0301"]),
        ("a b c d e f g h i j k l m n", ["a b c d", "e f g h…"]),
    ],
)
def test_lines(text: str, lines: list[str]) -> None:
    assert wrapped(text, 8, 2) == lines


def test_a_long_text_is_not_read_to_its_end() -> None:
    for piece in ("x y ", "\u0301", "\n"):
        short, long = (calls_made(lambda t=piece * n: wrapped(t, 20, 3)) for n in (1_000, 50_000))
        assert long == short
    assert calls_made(lambda: wrapped("x y " * 1_000, 20, 3)) < 20 * 3 * 30


@given(st.text())
def test_what_is_printable_can_be_in_xml(text: str) -> None:
    shown = printable(text)
    root = ET.Element("a")
    root.text = shown
    assert ET.fromstring(ET.tostring(root, "unicode")).text == (shown or None)


def test_signs_for_what_cannot_be_seen() -> None:
    assert printable("a\x00\x7f\x85\u202e\ud800\ufffe\n") == "a␀␡⟨0085⟩⟨202E⟩⟨D800⟩⟨FFFE⟩\n"
    assert printable("שלום 你好 👩‍👩‍👧 \U000e0067") == "שלום 你好 👩‍👩‍👧 \U000e0067"


# -- colours


def contrast(one: str, other: str) -> float:
    """As WCAG 2.1 defines it, from 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_the_contrast_is_enough(palette: Palette) -> None:
    grounds = (palette.page, palette.lane, palette.frame, palette.card)
    for ground in grounds:
        for text in (palette.text, palette.note, palette.keep):
            assert contrast(text, ground) >= 4.5, (text, ground)
        assert contrast(palette.reference, ground) >= 4.5
        assert contrast(palette.flow, ground) >= 2.5
    for kind, colour in palette.kinds.items():
        assert contrast(colour, palette.card) >= (3 if kind == "text" else 4.5), kind


# -- the picture in the README


def test_the_readmes_picture_is_up_to_date() -> None:
    spec = spec_from_file_location("demo_for_its_picture", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    demo = module_from_spec(spec)
    spec.loader.exec_module(demo)
    drawing = svg(demo.tips.trace(topic="brewing a good cup of tea"))
    assert (ROOT / "docs" / "pictures" / "tips.svg").read_text() == drawing, (
        "draw it anew: ramet.pictures.svg(tips.trace(topic='brewing a good cup of tea'))"
    )

"""A picture of a graph as a Mermaid flowchart: lanes and turns of the chat are subgraphs.

Every label is on one line, between quotes, and in it each sign that could mean something to
Mermaid, to Markdown or to HTML is a character code.
"""

import re
from collections.abc import Iterator
from itertools import zip_longest

from ramet.graph import Graph
from ramet.nodes import Keep
from ramet.pictures.labels import Label, label
from ramet.pictures.palette import LIGHT
from ramet.pictures.structure import Card, Group, Structure, TurnBegins, TurnEnds, structure
from ramet.pictures.wrap import clipped, printable
from ramet.render import render_result
from ramet.verify import verify

LONGEST = 60  # cells of a label
_DEEPEST = 8  # levels that are indented
_SPECIAL = re.compile(r"[^\w ,.:?!'=()+…·×↵«»“”-]")
_SHAPES = {
    "gen": ("(", ")"),
    "sample": ("(", ")"),
    "select": ("{{", "}}"),
    "score": ("[/", "/]"),
    "fork": ("([", "])"),
    "keep": ("([", "])"),
    "branch": ("([", "])"),
    "call": ("[[", "]]"),
}


def mermaid(graph: Graph) -> str:
    """The graph as the text of a flowchart; `GraphError` if it breaks a law."""
    verify(graph)
    return "\n".join(_Chart(graph).lines()) + "\n"


class _Chart:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: Structure = structure(graph.nodes)
        self.drawn = {id: id for id in range(len(graph.nodes))}  # the first node of each card
        self.edges: list[str] = []

    def lines(self) -> Iterator[str]:
        yield "flowchart TD"
        yield f"  n0([{_quoted(f'program {printable(self.graph.name)}')}]):::of_program"
        for id in self.found.inputs:
            yield f"  n{id}[{_quoted(label(id, self.found).body)}]:::of_program"
        yield from self._lanes()
        if self.graph.result is not None:
            text = printable(render_result(self.graph.result))
            yield f"  result[{_quoted(f'return {text}')}]:::of_return"
        yield from (f"  {edge}" for edge in self.edges)
        for id, node in enumerate(self.graph.nodes):
            if isinstance(node, Keep):
                yield f"  n{self.drawn[node.branch]} ==> n{id}"
        pairs = ((self.drawn[a], self.drawn[b]) for a, b in self.found.references())
        yield from (f"  n{source} -.-> n{target}" for source, target in dict.fromkeys(pairs))
        for kind, colour in LIGHT.kinds.items():
            yield f"  classDef of_{kind} stroke:{colour}"

    def _lanes(self) -> Iterator[str]:
        """All lanes, each inside the one where it begins; a stack takes the place of recursion."""
        stack = [self._lane(0)]
        while stack:
            match next(stack[-1], None):
                case None:
                    stack.pop()
                case int(lane):
                    stack.append(self._lane(lane))
                case line:
                    yield "  " * min(len(stack), _DEEPEST) + line

    def _lane(self, index: int) -> Iterator[str | int]:
        """The lines of a lane, and the lanes that are to be drawn between them."""
        lane = self.found.lanes[index]
        last, empty = lane.begin, False
        if index:
            told = label(last, self.found)
            yield f'subgraph lane{last}[" "]'  # its first node has the title
            yield self._node(last, told)
        for item, after in zip_longest(lane.items, lane.items[1:]):
            if isinstance(item, TurnBegins | TurnEnds) and item.node is not None:
                self.drawn[item.node] = last
            match item:
                case TurnBegins() if isinstance(after, TurnEnds):
                    empty = True  # a subgraph without nodes would be drawn as a node
                case TurnEnds() if empty:
                    empty = False
                case Card(nodes):
                    first = nodes[0]
                    self.drawn.update(dict.fromkeys(nodes, first))
                    told = label(first, self.found)
                    if len(nodes) > 1:
                        body = "".join(label(id, self.found).body for id in nodes)
                        told = Label(body=body, style="prompt")
                    yield self._node(first, told)
                    self.edges.append(f"n{last} --> n{first}")
                    last = first
                case TurnBegins(role, node):
                    yield f'subgraph turn{last if node is None else node}["{role}"]'
                case TurnEnds():
                    yield "end"
                case Group(kind, lanes):
                    arrow = "-->" if kind == "branch" else "-.->"
                    begins = [self.found.lanes[child].begin for child in lanes]
                    self.edges += [f"n{last} {arrow} n{begin}" for begin in begins]
                    yield from lanes
        if index:
            yield "end"
        elif self.graph.result is not None:
            self.edges.append(f"n{last} --> result")

    def _node(self, id: int, told: Label) -> str:
        left, right = _SHAPES.get(told.kind, ("[", "]"))
        if not told.kind:
            return f"n{id}[{_quoted(f'“{told.body}')}]:::of_text"
        text = f"{told.kind} {told.name}"
        if told.style == "prompt":
            text += f" “{told.body}"
        return f"n{id}{left}{_quoted(text)}{right}:::of_{told.kind}"


def _quoted(text: str) -> str:
    flat = clipped(text.replace("\t", " "), LONGEST)
    if "“" in flat and not flat.endswith("…"):
        flat += "”"
    return f'"{_SPECIAL.sub(_code, flat)}"'


def _code(char: re.Match[str]) -> str:
    return f"#{ord(char[0])};"

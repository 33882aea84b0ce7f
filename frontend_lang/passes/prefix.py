"""What all graphs of a batch begin with. Knows text and turns, and no tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

from ramet.graph import Graph
from ramet.nodes import Branch, Call, Close, Open, Step, Text
from ramet.passes.rewrite import joined

Leading: TypeAlias = Text | Open | Close
_Item: TypeAlias = str | Open | Close


def common_prefix(graphs: Iterable[Graph]) -> tuple[Leading, ...]:
    """The text and turns that all these graphs begin with, as nodes of one state, from node 0 on.

    Only what is written out counts: the prefix ends at the first value, draw or fork of any graph,
    or where their texts first differ, in the middle of a text if need be. Nothing is common to no
    graphs.
    """
    rows = [_leading(graph) for graph in graphs]
    return _nodes(_common(rows)) if rows else ()


def _leading(graph: Graph) -> list[_Item]:
    """What the program's own state begins with, neighbouring texts as one."""
    after = {
        node.state: (id, node)
        for id, node in enumerate(graph.nodes)
        if isinstance(node, Step) and not isinstance(node, Branch | Call)
    }
    row: list[_Item] = []
    at = 0
    while at in after:
        at, node = after[at]
        match node:
            case Open() | Close():
                row.append(node)
            case Text(parts=parts):
                literal = joined(parts)
                if literal and isinstance(first := literal[0], str):
                    joins = bool(row) and isinstance(row[-1], str)
                    row[-1:] = [f"{row[-1]}{first}"] if joins else [*row[-1:], first]
                if len(literal) != 1 or not isinstance(literal[0], str):
                    return row
            case _:
                return row
    return row


def _common(rows: Sequence[Sequence[_Item]]) -> list[_Item]:
    found: list[_Item] = []
    for items in zip(*rows, strict=False):
        first = items[0]
        if isinstance(first, str):
            texts = [item if isinstance(item, str) else "" for item in items]
            shared = _common_text(texts)
            found += [shared] if shared else []
            if any(text != shared for text in texts):
                return found
        elif all(item == replace(first, state=getattr(item, "state", 0)) for item in items):
            found.append(first)
        else:
            return found
    return found


def _common_text(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)  # what these two share, all between them share
    for at, letter in enumerate(low):
        if letter != high[at]:
            return low[:at]
    return low


def _nodes(row: Sequence[_Item]) -> tuple[Leading, ...]:
    nodes: list[Leading] = []
    for state, item in enumerate(row):
        match item:
            case str():
                nodes.append(Text(state, (item,)))
            case Open(role=role, span=span):
                nodes.append(Open(state, role, span=span))
            case Close(role=role, span=span):
                nodes.append(Close(state, role, span=span))
    return tuple(nodes)

"""What all graphs of a batch begin with. Knows text and turns; how many tokens that is, nobody here."""

import os
from collections.abc import Iterable, Sequence
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
        texts = [item for item in items if isinstance(item, str)]
        if len(texts) == len(items):
            common = os.path.commonprefix(texts)
            found += [common] if common else []
            if any(text != common for text in texts):
                return found
        elif (
            texts
            or len({(type(item), item.role) for item in items if not isinstance(item, str)}) > 1
        ):
            return found
        else:
            found.append(items[0])
    return found


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

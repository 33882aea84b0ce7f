"""Building a graph from nodes of another one: new numbers, and references that follow them.

Knows which fields of a node refer to others; knows no pass.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import cast

from ramet.graph import Graph
from ramet.ledger import Ledger
from ramet.nodes import (
    Keep,
    ListOf,
    MapOf,
    Node,
    Part,
    Ref,
    Result,
    Score,
    Step,
    Text,
    TextOf,
    TupleOf,
)


def rewrite(
    graph: Graph, rows: Iterable[tuple[int, Node]], stand_in: Mapping[int, int] | None = None
) -> Graph:
    """The graph with these nodes, in this order; each comes with the id that others know it by.

    Args:
        rows: nodes that refer to others by their ids in `graph`, with their own.
        stand_in: for the id of a node that is left out, the id of the one to come after instead.
    """
    rows, stand_in = list(rows), stand_in or {}
    ids = {old: new for new, (old, _) in enumerate(rows)}

    def new(old: int) -> int:
        while old in stand_in:
            old = stand_in[old]
        return ids[old]

    def moved(ref: Ref) -> Ref:
        return Ref(new(ref.node), ref.attribute)

    nodes = tuple(_renumbered(node, new, moved) for _, node in rows)
    return Graph(graph.name, nodes, map_result(graph.result, moved, moved))


def _renumbered(node: Node, new: Callable[[int], int], moved: Callable[[Ref], Part]) -> Node:
    if isinstance(node, Step):
        node = replace(node, state=new(node.state))
    if isinstance(node, Keep):
        node = replace(node, branch=new(node.branch))
    if isinstance(node, Text | Score):
        node = replace(node, parts=map_parts(node.parts, moved))
    return node


def map_parts(parts: Iterable[Part], change: Callable[[Ref], Part]) -> tuple[Part, ...]:
    """The parts, with every reference changed."""
    return tuple(change(part) if isinstance(part, Ref) else part for part in parts)


def map_result(
    result: Result, value: Callable[[Ref], Result], part: Callable[[Ref], Part]
) -> Result:
    """The result, with every reference changed: by `part` inside a text, else by `value`."""
    match result:
        case Ref():
            return value(result)
        case TextOf(parts):
            return TextOf(joined(map_parts(parts, part)))
        case ListOf(items):
            return ListOf(tuple(map_result(item, value, part) for item in items))
        case TupleOf(items):
            return TupleOf(tuple(map_result(item, value, part) for item in items))
        case MapOf(items):
            return MapOf(tuple((key, map_result(item, value, part)) for key, item in items))
        case _:
            return result


def joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts with neighbouring strings as one, and without empty ones."""
    row: list[Part] = []
    text: list[str] = []
    for part in (*parts, None):
        if isinstance(part, str):
            text.append(part)
            continue
        if whole := "".join(text):
            row.append(whole)
        text.clear()
        if part is not None:
            row.append(part)
    return tuple(row)


def refs_in(graph: Graph) -> Iterator[Ref]:
    """Every reference to a value, in the nodes and the result."""
    for node in graph.nodes:
        yield from refs_of(node)
    found: list[Ref] = []

    def seen(ref: Ref) -> Ref:
        found.append(ref)
        return ref

    map_result(graph.result, seen, seen)
    yield from found


def refs_of(node: Node) -> tuple[Ref, ...]:
    """The references to values that the node makes."""
    parts = node.parts if isinstance(node, Text | Score) else ()
    return cast("tuple[Ref, ...]", tuple(part for part in parts if isinstance(part, Ref)))


def ledger_of(graph: Graph) -> Ledger:
    """What follows from the order of its nodes."""
    ledger = Ledger()
    for node in graph.nodes:
        ledger.note(node)
    return ledger

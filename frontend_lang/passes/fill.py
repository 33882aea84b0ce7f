"""Puts arguments in place of the inputs of a graph."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from ramet.arguments import has_type
from ramet.errors import ArgumentError, near_miss, shown
from ramet.graph import Graph
from ramet.nodes import Input, ListOf, MapOf, Node, Part, Ref, Result, Score, Text
from ramet.passes.rewrite import joined, map_parts, map_result, rewrite
from ramet.spelling import spelled


def fill(graph: Graph, arguments: Mapping[str, Any]) -> Graph:
    """The graph with these arguments, and without inputs.

    A string goes into a text as it is, other values as JSON.

    Raises:
        ArgumentError: one is missing, unknown, of the wrong type, or no JSON; or in all places
            together they are larger than `MOST`.
    """
    texts = _texts(graph, arguments)
    inputs = {id: node.name for id, node in enumerate(graph.nodes) if isinstance(node, Input)}
    size = 0

    def placed(ref: Ref) -> str:
        nonlocal size
        size += len(texts[inputs[ref.node]])
        if size > MOST:
            raise ArgumentError(
                f"{graph.name}: the arguments are over {MOST:,} characters in all the places where "
                "they stand"
            )
        return inputs[ref.node]

    def part(ref: Ref) -> Part:
        return texts[placed(ref)] if ref.node in inputs else ref

    def value(ref: Ref) -> Result:
        return _constant(arguments[placed(ref)]) if ref.node in inputs else ref

    rows: list[tuple[int, Node]] = []
    empty: dict[int, int] = {}
    for id, node in enumerate(graph.nodes):
        if isinstance(node, Text | Score):
            node = replace(node, parts=joined(map_parts(node.parts, part)))
        if isinstance(node, Text) and not node.parts:
            empty[id] = node.state
        elif not isinstance(node, Input):
            rows.append((id, node))
    filled = replace(graph, result=map_result(graph.result, value, part))
    return rewrite(filled, rows, empty)


MOST = 4_000_000
"""Characters, or as JSON, of arguments in all the places of a graph where they stand."""


def _texts(graph: Graph, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Each argument as it stands in a text, by its name; all are there, and of their types."""
    takes = {node.name: node.takes for node in graph.inputs}
    for name in arguments:
        if name not in takes:
            hint = near_miss(name, takes)
            raise ArgumentError(f"{graph.name}: the graph has no input {shown(name)}{hint}")
    for name, kind in takes.items():
        if name not in arguments:
            raise ArgumentError(f"{graph.name}: the argument {name!r} is missing; it takes {kind}")
        if not has_type(arguments[name], kind):
            raise ArgumentError(
                f"{graph.name}: {name} must be {kind}, not {shown(arguments[name])}"
            )
    return {name: _spelled(graph.name, name, arguments[name]) for name in takes}


def _spelled(graph: str, name: str, value: object) -> str:
    try:
        return spelled(value)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{graph}: {name} is no JSON: {error}") from None


def _constant(value: object) -> Result:
    match value:
        case list() | tuple():
            return ListOf(tuple(map(_constant, cast("list[object]", value))))
        case dict():
            items = cast("dict[str, object]", value).items()
            return MapOf(tuple((key, _constant(item)) for key, item in items))
        case _:
            return cast("Result", value)

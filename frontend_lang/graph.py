"""The request graph, and how it is walked. Flat, and each node refers only to earlier ones.

Knows what follows from the order of nodes: chains, variables, branches. Assumes a legal graph
(`ramet.verify`); knows nothing of how one is written or run.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ramet.nodes import (
    Branch,
    Close,
    Fork,
    Gen,
    ListOf,
    MapOf,
    Node,
    Open,
    Part,
    Ref,
    Result,
    Root,
    Select,
    Step,
    Text,
    TextOf,
    TupleOf,
)
from ramet.render import render

__all__ = [
    "Branch",
    "Close",
    "Fork",
    "Gen",
    "Graph",
    "ListOf",
    "MapOf",
    "Node",
    "Open",
    "Part",
    "Ref",
    "Result",
    "Root",
    "Select",
    "Step",
    "Text",
    "TextOf",
    "TupleOf",
    "branches",
    "chain",
    "end",
    "resolve",
    "variables",
]


@dataclass(frozen=True, slots=True)
class Graph:
    """A program with its arguments filled in."""

    name: str
    nodes: tuple[Node, ...]
    result: Result = None

    def __str__(self) -> str:
        return render(self.name, self.nodes, self.result)


def chain(graph: Graph, node: int) -> list[int]:
    """The ids from the root to that node: the context that a reader of the node's state sees.

    For a node in a branch it goes through the `Fork` to what the parent had before it.
    """
    ids = [node]
    while isinstance(step := graph.nodes[ids[-1]], Step):
        ids.append(step.state)
    return ids[::-1]


def variables(graph: Graph, node: int) -> dict[str, int]:
    """The names that are bound once that node has run, each with the node that bound it last."""
    return {
        bound.name: id
        for id in chain(graph, node)
        if isinstance(bound := graph.nodes[id], Gen | Select)
    }


def branches(graph: Graph, fork: int) -> list[int]:
    """The ids of the fork's branches, by index."""
    found = [
        (node.index, id)
        for id, node in enumerate(graph.nodes)
        if isinstance(node, Branch) and node.state == fork
    ]
    return [id for _, id in sorted(found)]


def end(graph: Graph, node: int = 0) -> int:
    """The last node of the chain that goes on from that node, branches of forks left aside."""
    for id, later in enumerate(graph.nodes):
        if isinstance(later, Step) and later.state == node and not isinstance(later, Branch):
            node = id
    return node


def resolve(result: Result, value: Callable[[Ref], object]) -> object:
    """The result as plain Python, given what each reference stands for."""
    match result:
        case Ref():
            return value(result)
        case TextOf(parts):
            return "".join(p if isinstance(p, str) else str(value(p)) for p in parts)
        case ListOf(items):
            return [resolve(item, value) for item in items]
        case TupleOf(items):
            return tuple(resolve(item, value) for item in items)
        case MapOf(items):
            return {key: resolve(item, value) for key, item in items}
        case _:
            return result

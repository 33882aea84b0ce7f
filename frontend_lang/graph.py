"""The request graph, and how it is walked. Flat, and each node refers only to earlier ones.

Knows what follows from the order of nodes: chains, variables, branches. Assumes a legal graph
(`ramet.verify`); knows nothing of how one is written or run.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ramet.nodes import (
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Input,
    Keep,
    ListOf,
    MapOf,
    Node,
    Object,
    Open,
    Part,
    Ref,
    Result,
    Root,
    Sample,
    Score,
    Select,
    Step,
    Text,
    TextOf,
    TupleOf,
)
from ramet.render import render

__all__ = [
    "Branch",
    "Call",
    "Close",
    "Fork",
    "Gen",
    "Graph",
    "Input",
    "Keep",
    "ListOf",
    "MapOf",
    "Node",
    "Object",
    "Open",
    "Part",
    "Ref",
    "Result",
    "Root",
    "Sample",
    "Score",
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
    """A program with its arguments filled in, but for those that it has an `Input` for."""

    name: str
    nodes: tuple[Node, ...]
    result: Result = None

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The arguments that are still to be given."""
        return tuple(node for node in self.nodes if isinstance(node, Input))

    def __str__(self) -> str:
        return render(self.name, self.nodes, self.result)

    def _repr_svg_(self) -> str:
        """What a notebook shows."""
        from ramet.pictures import svg  # which draws graphs, and so imports them

        return svg(self)


def before(node: Node) -> int | None:
    """The node that came before this one in the context; None where a context begins."""
    match node:
        case Keep(branch=branch):
            return branch
        case Call():
            return None
        case Step(state=state):
            return state
        case _:
            return None


def chain(graph: Graph, node: int) -> list[int]:
    """The ids from the root, or the call, to that node: the context that a reader of it sees.

    For a node in a branch it goes through the `Fork` to what the parent had before it.
    """
    ids = [node]
    while (earlier := before(graph.nodes[ids[-1]])) is not None:
        ids.append(earlier)
    return ids[::-1]


def variables(graph: Graph, node: int) -> dict[str, int]:
    """The names that are bound once that node has run, each with the node that bound it last."""
    found: dict[str, int] = {}
    for id in chain(graph, node):
        match bound := graph.nodes[id]:
            case Gen() | Select() | Score():
                found[bound.name] = id
            case Branch(state=fork) if isinstance(sample := graph.nodes[fork], Sample):
                found[sample.name] = id
            case _:
                pass
    return found


def branches(graph: Graph, fork: int) -> list[int]:
    """The ids of the fork's branches, by index."""
    found = [
        (node.index, id)
        for id, node in enumerate(graph.nodes)
        if isinstance(node, Branch) and node.state == fork
    ]
    return [id for _, id in sorted(found)]


def end(graph: Graph, node: int = 0) -> int:
    """The last node of the state that goes on from that node, what begins on it left aside."""
    for id, later in enumerate(graph.nodes):
        if isinstance(later, Step) and later.state == node and not isinstance(later, Branch | Call):
            node = id
    return node


def resolve(result: Result, value: Callable[[Ref], object]) -> object:
    """The result as plain Python, given what each reference stands for."""
    match result:
        case Ref():
            return value(result)
        case TextOf(parts):
            return "".join(p if isinstance(p, str) else str(value(_text_of(p))) for p in parts)
        case ListOf(items):
            return [resolve(item, value) for item in items]
        case TupleOf(items):
            return tuple(resolve(item, value) for item in items)
        case MapOf(items):
            return {key: resolve(item, value) for key, item in items}
        case Object():
            return result.value
        case _:
            return result


def _text_of(ref: Ref) -> Ref:
    """The value as it was generated, where it stands in a text."""
    return Ref(ref.node, "text") if ref.attribute is None else ref

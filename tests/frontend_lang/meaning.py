"""What the values of a graph follow from, worked out without running it.

A stand-in for a model: the value of a node is a digest of its settings, of its context, and of the
place in the program that a draw depends on.
"""

from collections import Counter, defaultdict
from dataclasses import replace
from hashlib import blake2b

from ramet.graph import Graph, before, end, resolve, variables
from ramet.nodes import (
    COUNTED,
    Branch,
    Call,
    Close,
    Gen,
    Input,
    Node,
    Open,
    Part,
    Ref,
    Sample,
    Score,
    Select,
    Text,
)
from ramet.passes.rewrite import ledger_of


def meaning(graph: Graph) -> tuple[Counter[str], dict[str, str], object, str]:
    """Every value that is drawn, the program's variables, what it returns, and its text."""
    values, contexts = _run(graph)
    drawn = Counter(v for id, v in values.items() if not isinstance(graph.nodes[id], Input))
    last = end(graph)
    bound = {name: values[id] for name, id in variables(graph, last).items()}
    returned = resolve(graph.result, lambda ref: _shown(ref, values))
    return drawn, bound, returned, contexts[last]


def _run(graph: Graph) -> tuple[dict[int, str], list[str]]:
    ledger = ledger_of(graph)
    values: dict[int, str] = {}
    contexts: list[str] = []
    steps: dict[int, int] = defaultdict(int)  # on each state so far
    calls: dict[int, int] = defaultdict(int)
    places: list[str] = []
    paths = {0: ""}
    for id, node in enumerate(graph.nodes):
        begun = ledger.begun[id]
        steps[begun] += isinstance(node, COUNTED)
        if isinstance(node, Branch):
            paths[id] = f"{places[node.state]}.{node.index}"
        if isinstance(node, Call):
            caller = ledger.begun[node.state]
            paths[id] = f"{paths[caller]}/call{calls[caller]}"
            calls[caller] += 1
        places.append(f"{paths[begun]}/{steps[begun]}")
        earlier = before(node)
        context = "" if earlier is None else contexts[earlier]
        value = _value(graph, node, places[-1], context, values)
        if value is not None:
            values[id] = value
        contexts.append(context + _appended(node, value, values))
    return values, contexts


def _value(
    graph: Graph, node: Node, place: str, context: str, values: dict[int, str]
) -> str | None:
    match node:
        case Input(name=name):
            return f"<{name}>"
        case Gen() | Select():
            return _digest(place, context, replace(node, state=0))
        case Score(name=name, parts=parts):
            return _digest(context, name, _spelled(parts, values))
        case Branch(state=fork) if isinstance(sample := graph.nodes[fork], Sample):
            return _digest(place, context, replace(sample, state=0))
        case _:
            return None


def _appended(node: Node, value: str | None, values: dict[int, str]) -> str:
    match node:
        case Text(parts=parts):
            return _spelled(parts, values)
        case Open(role=role) | Close(role=role):
            return f"<{type(node).__name__} {role}>"
        case Gen() | Select() | Branch() if value is not None:
            return f"[{value}]"
        case _:
            return ""


def _spelled(parts: tuple[Part, ...], values: dict[int, str]) -> str:
    return "".join(part if isinstance(part, str) else _shown(part, values) for part in parts)


def _shown(ref: Ref, values: dict[int, str]) -> str:
    return f"{values[ref.node]}.{ref.attribute}"


def _digest(*what: object) -> str:
    return blake2b(repr(what).encode(), digest_size=8).hexdigest()

"""Holds a graph, a node or a result against the laws. Knows no law itself (`ramet.laws`)."""

import math
from collections.abc import Iterator

from ramet.errors import Break, GraphError
from ramet.graph import Graph
from ramet.laws import LAWS, no_text, not_unicode, refs_of, texts_of, unbound
from ramet.ledger import Ledger
from ramet.nodes import ListOf, MapOf, Node, Object, Ref, Result, TextOf, TupleOf, kind_of

MAX_RESULT_DEPTH = 32
MAX_RESULT_BITS = 4_096


def verify(graph: Graph) -> None:
    """Raise one `GraphError` that lists every law which any node, or the result, breaks."""
    ledger = Ledger()
    found: list[Break] = []
    for node in graph.nodes:
        found += breaks(ledger, node)
        ledger.note(node)
    if not graph.nodes:
        found.append(Break(0, "root", "starts_at_root", "the graph has no nodes"))
    found += _result_breaks(ledger, graph.result)
    if found:
        raise GraphError.of(found)


def check(ledger: Ledger, node: Node) -> None:
    """Raise one `GraphError` that lists the laws which the node would break as the next one.

    Whoever writes the program knows the place, and no numbers of nodes: the message has none.
    """
    if found := breaks(ledger, node):
        message = "\n".join(f"{each.kind}: {each.found}" for each in found)
        raise GraphError(message, breaks=tuple(found))


def breaks(ledger: Ledger, node: Node) -> list[Break]:
    """The laws that the node would break as the next one."""
    return [
        Break(len(ledger.nodes), kind_of(node), law.__name__, what, node.span)
        for law in LAWS[type(node)]
        if (what := law(node, ledger)) is not None
    ]


def check_result(ledger: Ledger, result: Result) -> None:
    """Raise one `GraphError` that lists what is wrong with the result of these nodes."""
    if found := _result_breaks(ledger, result):
        raise GraphError.of(found)


def _result_breaks(ledger: Ledger, result: Result) -> list[Break]:
    found = _result_faults(ledger, result, MAX_RESULT_DEPTH)
    return [Break(len(ledger.nodes), "return", law, what) for law, what in found]


def _result_faults(ledger: Ledger, result: Result, depth: int) -> Iterator[tuple[str, str]]:
    match result:
        case Ref():
            yield from _named("result_is_bound", unbound(result, ledger))
        case TextOf(parts):
            yield from _named("result_is_unicode", not_unicode(texts_of(parts)))
            for ref in refs_of(parts):
                yield from _named("result_is_bound", unbound(ref, ledger))
                yield from _named("result_is_text", no_text(ref, ledger))
        case ListOf() | TupleOf() | MapOf() if depth == 0:
            yield "result_is_flat", f"it nests deeper than {MAX_RESULT_DEPTH}"
        case ListOf(items) | TupleOf(items):
            for item in items:
                yield from _result_faults(ledger, item, depth - 1)
        case MapOf(items):
            yield from _named("result_is_unicode", not_unicode(key for key, _ in items))
            if len(dict(items)) < len(items):
                yield "result_is_map", "a key is there twice"
            for _, item in items:
                yield from _result_faults(ledger, item, depth - 1)
        case Object(json=json):
            yield from _named("result_is_unicode", not_unicode([json]))
        case _:
            yield from _named("result_is_json", _constant_break(result))


def _named(law: str, found: str | None) -> Iterator[tuple[str, str]]:
    if found is not None:
        yield law, found


def _constant_break(value: bool | int | float | str | None) -> str | None:
    if isinstance(value, str):
        return not_unicode([value])
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no number in JSON"
    if isinstance(value, int) and value.bit_length() > MAX_RESULT_BITS:
        return f"a whole number of more than {MAX_RESULT_BITS} bits"
    return None

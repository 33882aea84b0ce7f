"""Merging, pruning and ordering together, on graphs drawn at random."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings

from ramet.graph import Call, Gen, Graph, Root, Text
from ramet.passes import fill, merge, order, prune, simplify
from ramet.verify import verify
from tests.frontend_lang.graphs import exactly, graphs
from tests.frontend_lang.meaning import meaning

Pass = Callable[[Graph], Graph]
ARGUMENTS = {"str": "é", "int": 3, "float": 0.5, "bool": True, "list": ["a"], "map": {"b": 1}}


@pytest.mark.parametrize("change", [merge, prune, order, simplify])
@settings(max_examples=60)
@given(graph=graphs(size=14))
def test_a_pass_keeps_what_a_graph_means(change: Pass, graph: Graph) -> None:
    changed = change(graph)
    verify(changed)
    assert meaning(changed) == meaning(graph)
    assert exactly(change(changed)) == exactly(changed)
    assert len(changed.nodes) <= len(graph.nodes)


@settings(max_examples=60)
@given(graphs(size=14))
def test_filling_and_simplifying_may_come_in_any_order(graph: Graph) -> None:
    simple = simplify(graph)
    arguments = {node.name: ARGUMENTS[node.takes] for node in graph.inputs}
    first = fill(simple, {node.name: arguments[node.name] for node in simple.inputs})
    verify(first)
    assert exactly(simplify(first)) == exactly(simplify(fill(graph, arguments)))


def test_a_call_that_others_are_numbered_after_stays() -> None:
    """A draw in a call depends on how many calls came before it on the caller's state."""
    nodes = (Root(), Call(0, "q"), Call(0, "q"), Text(2, ("a",)), Gen(3, "x"), Call(4, "q"))
    graph = Graph("p", nodes)
    assert prune(graph).nodes == nodes[:5]
    assert meaning(prune(graph)) == meaning(graph)

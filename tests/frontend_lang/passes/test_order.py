import random

from hypothesis import given, settings, strategies as st

from ramet.graph import Branch, Call, Fork, Gen, Graph, Input, Keep, Ref, Root, Text
from ramet.ledger import Ledger
from ramet.nodes import Step
from ramet.passes import order
from ramet.passes.rewrite import ledger_of, refs_of, rewrite
from ramet.verify import verify
from tests.frontend_lang.graphs import exactly, graphs


def test_a_fork_then_its_branches_then_what_goes_on() -> None:
    graph = Graph(
        "g",
        (
            Root(),
            Fork(0, 2),
            Text(1, ("after",)),
            Branch(1, 1),
            Branch(1, 0),
            Gen(3, "x"),
            Gen(4, "y"),
            Call(4, "p"),
        ),
        Ref(5),
    )
    assert order(graph) == Graph(
        "g",
        (
            Root(),
            Fork(0, 2),
            Branch(1, 0),
            Call(2, "p"),
            Gen(2, "y"),
            Branch(1, 1),
            Gen(5, "x"),
            Text(1, ("after",)),
        ),
        Ref(6),
    )


def test_what_is_referred_to_comes_first() -> None:
    graph = Graph(
        "g",
        (
            Root(),
            Fork(0, 2),
            Branch(1, 0),
            Branch(1, 1),
            Gen(3, "x"),
            Text(2, (Ref(4),)),
            Gen(5, "y"),
            Gen(1, "z"),
        ),
    )
    assert [type(node).__name__ for node in order(graph).nodes] == (
        "Root Fork Branch Branch Gen Text Gen Gen".split()
    )
    assert order(graph) == graph


def test_inputs_come_by_name() -> None:
    graph = Graph("g", (Root(), Input("b"), Input("a"), Text(0, (Ref(1), Ref(2)))), Ref(2))
    assert order(graph) == Graph(
        "g", (Root(), Input("a"), Input("b"), Text(0, (Ref(2), Ref(1)))), Ref(1)
    )


def test_calls_of_one_state_keep_their_order() -> None:
    """It gives them their names, on which their draws depend."""
    graph = Graph("g", (Root(), Text(0, ("a",)), Call(1, "p"), Call(0, "q"), Gen(2, "x")))
    assert [node.program for node in order(graph).nodes if isinstance(node, Call)] == ["p", "q"]


def test_a_keep_comes_after_what_it_releases() -> None:
    nodes = (Root(), Fork(0, 2), Branch(1, 1), Branch(1, 0), Gen(2, "x"), Keep(1, 3))
    ordered = order(Graph("g", nodes))
    verify(ordered)
    assert isinstance(ordered.nodes[-1], Keep)


@settings(max_examples=100)
@given(graphs(), st.integers(0))
def test_graphs_that_differ_in_who_was_recorded_first_become_equal(graph: Graph, seed: int) -> None:
    other = shuffled(graph, random.Random(seed))
    verify(other)
    assert exactly(order(other)) == exactly(order(graph))


def shuffled(graph: Graph, chance: random.Random) -> Graph:
    """The same nodes in another legal order."""
    ledger = ledger_of(graph)
    done: set[int] = set()
    row: list[int] = []
    while len(row) < len(graph.nodes):
        ready = [id for id in range(len(graph.nodes)) if id not in done]
        id = chance.choice([id for id in ready if may_come(graph, ledger, id, done)])
        done.add(id)
        row.append(id)
    return rewrite(graph, [(id, graph.nodes[id]) for id in row])


def may_come(graph: Graph, ledger: Ledger, id: int, done: set[int]) -> bool:
    node = graph.nodes[id]
    if isinstance(node, Input):
        return 0 in done
    needed = {ref.node for ref in refs_of(node)}
    if isinstance(node, Step):
        needed |= {at for at, each in enumerate(graph.nodes) if isinstance(each, Input)}
        needed.add(node.state)
    if isinstance(node, Keep):
        needed.add(node.branch)
        needed |= {at for at, begun in enumerate(ledger.begun) if ledger.released.get(begun) == id}
        needed |= {
            at  # begins on a state that the keep ends, also on the one that it keeps
            for at, each in enumerate(graph.nodes)
            if isinstance(each, Step) and ledger.released.get(ledger.begun[each.state]) == id
        }
    if isinstance(node, Call):
        needed |= {
            at
            for at, each in enumerate(graph.nodes[:id])
            if isinstance(each, Call) and ledger.begun[each.state] == ledger.begun[node.state]
        }
    return needed <= done

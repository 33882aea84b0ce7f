import pytest

from ramet.errors import Span
from ramet.graph import (
    Branch,
    Call,
    Fork,
    Gen,
    Graph,
    Input,
    Keep,
    ListOf,
    MapOf,
    Ref,
    Root,
    Sample,
    Score,
    Select,
    Text,
    TextOf,
    TupleOf,
    branches,
    chain,
    end,
    resolve,
    variables,
)
from ramet.params import SamplingParams
from ramet.verify import verify

# 0 root - 1 gen a - 2 fork - 3 branch 0 - 6 gen b (own)
#                          |- 4 branch 1 - 7 gen a (shadows)
#                          `- 5 text - 8 select c (the parent goes on)
FORKED = Graph(
    "forked",
    (
        Root(),
        Gen(0, "a"),
        Fork(1, 2),
        Branch(2, 0),
        Branch(2, 1),
        Text(2, ("then ", Ref(1))),
        Gen(3, "b"),
        Gen(4, "a"),
        Select(5, "c", ("x", "y")),
    ),
)


def test_a_chain_goes_through_the_fork_to_the_root() -> None:
    assert chain(FORKED, 6) == [0, 1, 2, 3, 6]
    assert chain(FORKED, 8) == [0, 1, 2, 5, 8]
    assert chain(FORKED, 0) == [0]


@pytest.mark.parametrize(
    ("node", "bound"),
    [(0, {}), (2, {"a": 1}), (6, {"a": 1, "b": 6}), (7, {"a": 7}), (8, {"a": 1, "c": 8})],
)
def test_a_branch_inherits_and_shadows(node: int, bound: dict[str, int]) -> None:
    assert variables(FORKED, node) == bound


# 0 root - 1 input - 2 sample p - 3 branch 0 - 5 score m
#                              |- 4 branch 1
#                              `- 7 keep branch 0 - 8 text; 6 call, from branch 0 - 9 gen x
KEPT = Graph(
    "kept",
    (
        Root(),
        Input("topic"),
        Sample(0, "p", SamplingParams(n=2, temperature=1)),
        Branch(2, 0),
        Branch(2, 1),
        Score(3, "m", ("?",)),
        Call(5, "other"),
        Keep(2, 5),
        Text(7, (Ref(1), Ref(3))),
        Gen(6, "x"),
    ),
)


def test_a_chain_goes_through_what_was_kept_and_begins_at_a_call() -> None:
    verify(KEPT)
    assert chain(KEPT, 8) == [0, 2, 3, 5, 7, 8]
    assert chain(KEPT, 9) == [6, 9]
    assert end(KEPT) == 8
    assert end(KEPT, 6) == 9
    assert KEPT.inputs == (Input("topic"),)


def test_a_branch_of_a_sample_binds_its_own_continuation() -> None:
    assert variables(KEPT, 2) == {}
    assert variables(KEPT, 4) == {"p": 4}
    assert variables(KEPT, 8) == {"p": 3, "m": 5}
    assert variables(KEPT, 9) == {"x": 9}


def test_branches_are_ordered_by_index() -> None:
    graph = Graph("g", (Root(), Fork(0, 2), Branch(1, 1), Branch(1, 0)))
    assert branches(graph, 1) == [3, 2]
    assert branches(FORKED, 2) == [3, 4]


def test_the_end_of_a_chain() -> None:
    assert end(FORKED) == 8
    assert end(FORKED, 3) == 6
    assert end(FORKED, 7) == 7


def test_spans_are_no_part_of_equality() -> None:
    placed = Text(0, ("a",), span=Span("f", 1, 1))
    assert placed == Text(0, ("a",))
    assert hash(placed) == hash(Text(0, ("a",)))


def test_a_graph_can_be_a_key() -> None:
    assert len({FORKED, Graph("forked", FORKED.nodes)}) == 1


def test_resolve_builds_what_the_program_returned() -> None:
    result = MapOf(
        (
            ("one", Ref(1)),
            ("many", ListOf((Ref(2, "prob"), None, True))),
            ("pair", TupleOf((1, 2.5))),
            ("text", TextOf(("<", Ref(1), ">"))),
        )
    )
    table = {Ref(1): 2, Ref(1, "text"): "2.0", Ref(2, "prob"): 0.5}
    assert resolve(result, table.__getitem__) == {
        "one": 2,
        "many": [0.5, None, True],
        "pair": (1, 2.5),
        "text": "<2.0>",
    }

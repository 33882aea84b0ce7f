from typing import cast

import pytest

from ramet.errors import GraphError, Span
from ramet.graph import (
    Branch,
    Close,
    Fork,
    Gen,
    Graph,
    ListOf,
    MapOf,
    Node,
    Open,
    Ref,
    Result,
    Root,
    Select,
    Text,
    TextOf,
)
from ramet.laws import LAWS
from ramet.ledger import Ledger
from ramet.nodes import KINDS, Method, Role
from ramet.params import SamplingParams
from ramet.verify import MAX_RESULT_DEPTH, verify

WIZARD = cast("Role", "wizard")
MODE = cast("Method", "sum_logprobs")
SAMPLES = SamplingParams(n=2, temperature=1)

# law, the nodes after the root, and what is found wrong with the last of them
BROKEN: list[tuple[str, tuple[Node, ...], str]] = [
    ("starts_at_root", (Root(),), "only node 0 is the root"),
    ("state_is_earlier", (Gen(1, "a"),), "it continues node 1, which does not come before it"),
    ("state_is_earlier", (Gen(-1, "a"),), "it continues node -1, which does not come before it"),
    (
        "state_is_free",
        (Gen(0, "a"), Gen(0, "b")),
        "node 0 is continued already; only a fork has several futures",
    ),
    (
        "state_is_free",
        (Fork(0, 1), Text(1, ("a",)), Text(1, ("b",))),
        "node 1 is continued already; only a fork has several futures",
    ),
    ("parts_are_present", (Text(0, ()),), "it has no parts, or an empty one"),
    ("parts_are_present", (Text(0, ("a", "")),), "it has no parts, or an empty one"),
    ("parts_are_unicode", (Text(0, ("\ud800",)),), "a lone surrogate is in a text"),
    (
        "parts_are_bound",
        (Text(0, (Ref(1),)),),
        "it refers to node 1, which does not come before it",
    ),
    (
        "parts_are_bound",
        (Text(0, (Ref(-1),)),),
        "it refers to node -1, which does not come before it",
    ),
    (
        "parts_are_bound",
        (Text(0, ("a", Ref(0))),),
        "it refers to node 0, a root, which binds no value",
    ),
    (
        "parts_are_bound",
        (Gen(0, "a"), Text(1, (Ref(1, "token"),))),
        "'token' is no attribute of a value; did you mean 'tokens'?",
    ),
    (
        "parts_are_texts",
        (Gen(0, "a", SAMPLES), Text(1, (Ref(1),))),
        "the value of node 1 is a list of 2 samples, not a text",
    ),
    (
        "role_is_known",
        (Open(0, WIZARD),),
        "'wizard' is no role (system, user, assistant)",
    ),
    (
        "no_role_is_open",
        (Open(0, "user"), Text(1, ("a",)), Open(2, "user")),
        "the user turn is still open; turns do not nest",
    ),
    (
        "no_role_is_open",
        (Open(0, "user"), Fork(1, 1), Branch(2, 0), Open(3, "system")),
        "the user turn is still open; turns do not nest",
    ),
    ("its_role_is_open", (Close(0, "user"),), "it closes user, but no turn is open"),
    (
        "its_role_is_open",
        (Open(0, "user"), Close(1, "system")),
        "it closes system, but user is open",
    ),
    (
        "name_is_identifier",
        (Gen(0, "9x"),),
        "'9x' is not a name: letters, digits and _, no digit first",
    ),
    (
        "name_is_identifier",
        (Select(0, "", ("a",)),),
        "'' is not a name: letters, digits and _, no digit first",
    ),
    ("options_are_distinct", (Select(0, "a", ()),), "it has no options, or an empty one"),
    ("options_are_distinct", (Select(0, "a", ("b", "")),), "it has no options, or an empty one"),
    ("options_are_distinct", (Select(0, "a", ("b", "b")),), "an option is there twice"),
    ("options_are_unicode", (Select(0, "a", ("\udfff",)),), "a lone surrogate is in a text"),
    (
        "method_is_known",
        (Select(0, "a", ("b",), MODE),),
        "'sum_logprobs' is no method (mean_logprob, sum_logprob, greedy, unconditional); "
        "did you mean 'sum_logprob'?",
    ),
    (
        "temperature_is_legal",
        (Select(0, "a", ("b",), temperature=float("nan")),),
        "temperature must be a number from 0 to 100, not nan",
    ),
    (
        "seed_is_legal",
        (Select(0, "a", ("b",), seed=-1),),
        "seed must be None or a whole number from 0 to 18446744073709551615, not -1",
    ),
    ("count_is_positive", (Fork(0, 0),), "it makes 0 branches; at least 1 is needed"),
    ("branch_is_of_fork", (Branch(0, 0),), "node 0 is no fork"),
    (
        "branch_is_of_fork",
        (Fork(0, 2), Branch(1, 2)),
        "its number is 2, but the fork makes 2 branches",
    ),
    (
        "branch_is_single",
        (Fork(0, 2), Branch(1, 0), Branch(1, 0)),
        "the fork has a branch 0 already",
    ),
]

BROKEN_RESULTS: list[tuple[str, Result, str]] = [
    ("result_is_bound", Ref(9), "it refers to node 9, which does not come before it"),
    ("result_is_bound", ListOf((Ref(0),)), "it refers to node 0, a root, which binds no value"),
    (
        "result_is_text",
        TextOf((Ref(1),)),
        "the value of node 1 is a list of 2 samples, not a text",
    ),
    ("result_is_unicode", TextOf(("\ud800",)), "a lone surrogate is in a text"),
    ("result_is_unicode", MapOf((("\ud800", 1),)), "a lone surrogate is in a text"),
    ("result_is_map", MapOf((("a", 1), ("a", 2))), "a key is there twice"),
    ("result_is_json", ListOf((float("inf"),)), "inf is no number in JSON"),
    ("result_is_json", 2**4_096, "a whole number of more than 4096 bits"),
    ("result_is_json", "\ud800", "a lone surrogate is in a text"),
]


@pytest.mark.parametrize(("law", "nodes", "found"), BROKEN)
def test_a_broken_law(law: str, nodes: tuple[Node, ...], found: str) -> None:
    with pytest.raises(GraphError) as caught:
        verify(Graph("broken", (Root(), *nodes)))
    (broken,) = caught.value.breaks
    assert (broken.node, broken.law, broken.found) == (len(nodes), law, found)
    kind = type(nodes[-1]).__name__.lower()
    assert str(caught.value) == f"node {len(nodes)} ({kind}) breaks {law}: {found}"


def test_every_law_is_broken_here() -> None:
    laws = {law.__name__ for laws in LAWS.values() for law in laws}
    assert laws == {law for law, _, _ in BROKEN}


def test_every_kind_has_laws() -> None:
    assert set(LAWS) == set(KINDS.values())


@pytest.mark.parametrize(("law", "result", "found"), BROKEN_RESULTS)
def test_a_broken_result(law: str, result: Result, found: str) -> None:
    with pytest.raises(GraphError) as caught:
        verify(Graph("broken", (Root(), Gen(0, "a", SAMPLES)), result))
    assert [(b.node, b.kind, b.law, b.found) for b in caught.value.breaks] == [
        (2, "return", law, found)
    ]


def test_a_result_nests_so_deep_and_no_deeper() -> None:
    result: Result = 1
    for _ in range(MAX_RESULT_DEPTH):
        result = ListOf((result,))
    verify(Graph("deep", (Root(),), result))
    with pytest.raises(GraphError, match="result_is_flat: it nests deeper than 32"):
        verify(Graph("deeper", (Root(),), ListOf((result,))))


def test_all_breaks_are_listed_with_their_places() -> None:
    nodes = (
        Root(),
        Gen(0, "9x", span=Span("p.py", 3, 5)),
        Close(1, "user"),
        Select(7, "b", ()),
    )
    with pytest.raises(GraphError) as caught:
        verify(Graph("broken", nodes, Ref(0)))
    assert [(b.node, b.law) for b in caught.value.breaks] == [
        (1, "name_is_identifier"),
        (2, "its_role_is_open"),
        (3, "state_is_earlier"),
        (3, "options_are_distinct"),
        (4, "result_is_bound"),
    ]
    assert str(caught.value).startswith("p.py:3:5: node 1 (gen) breaks name_is_identifier: ")


def test_an_empty_graph_has_no_root() -> None:
    with pytest.raises(GraphError, match="starts_at_root: the graph has no nodes"):
        verify(Graph("empty", ()))


def test_a_graph_that_does_not_start_at_its_root() -> None:
    with pytest.raises(GraphError, match="it continues node 0, which does not come before it"):
        verify(Graph("rootless", (Gen(0, "a"),)))


def test_what_is_allowed() -> None:
    verify(
        Graph(
            "legal",
            (
                Root(),
                Gen(0, "a", SAMPLES),
                Gen(1, "a"),  # bound again, as in Python
                Open(2, "assistant"),
                Fork(3, 2),  # inside a turn: branches inherit it
                Branch(4, 0),
                Branch(4, 1),
                Close(5, "assistant"),
                Open(7, "user"),
                Gen(6, "b"),
                Text(4, (Ref(9), Ref(1, "logprobs"))),  # from the parent into a branch
                Close(10, "assistant"),
            ),
        )
    )


def test_a_ledger_refuses_and_does_not_enter() -> None:
    ledger = Ledger()
    ledger.add(Root())
    with pytest.raises(GraphError, match=r"^node 1 \(close\) breaks its_role_is_open"):
        ledger.add(Close(0, "user", span=Span("p.py", 1, 1)))
    assert ledger.nodes == [Root()]
    assert ledger.add(Open(0, "user")) == 1
    assert ledger.role(1) == "user"

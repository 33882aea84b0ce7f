from typing import cast

import pytest

from ramet.errors import GraphError, Span
from ramet.graph import (
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Graph,
    Input,
    Keep,
    ListOf,
    MapOf,
    Node,
    Open,
    Ref,
    Result,
    Root,
    Sample,
    Score,
    Select,
    Text,
    TextOf,
)
from ramet.laws import LAWS
from ramet.ledger import Ledger
from ramet.nodes import KINDS, Method, Role
from ramet.params import SamplingParams
from ramet.types import Type
from ramet.verify import MAX_RESULT_DEPTH, check, verify

WIZARD = cast("Role", "wizard")
MODE = cast("Method", "sum_logprobs")
SAMPLES = SamplingParams(n=2, temperature=1)

RELEASED = "it continues node {}, whose branch keep has released"
KEPT: tuple[Node, ...] = (Fork(0, 2), Branch(1, 0), Keep(1, 2))

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
        (Gen(0, "a"), Text(1, (Ref(1, "text"), Ref(1, "probs")))),
        "'probs' is no attribute of gen; did you mean 'prob'?",
    ),
    (
        "parts_are_bound",
        (Input("a"), Text(0, (Ref(1, "text"),))),
        "'text' is no attribute of input",
    ),
    (
        "parts_are_texts",
        (Gen(0, "a", SAMPLES), Text(1, (Ref(1),))),
        "the value of node 1 is a list of 2 samples, not a text",
    ),
    (
        "parts_are_texts",
        (Gen(0, "a"), Text(1, (Ref(1, "logprobs"),))),
        "logprobs of node 1 is neither a text nor a number",
    ),
    (
        "parts_are_texts",
        (Text(0, ("a",)), Gen(1, "a", SAMPLES), Score(2, "b", (Ref(2, "text"),))),
        "the value of node 2 is a list of 2 samples, not a text",
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
    ("count_is_legal", (Fork(0, 0),), "it makes 0 branches; a fork makes 1 to 4096"),
    ("count_is_legal", (Fork(0, 4_097),), "it makes 4097 branches; a fork makes 1 to 4096"),
    ("input_is_early", (Text(0, ("a",)), Input("a")), "inputs come right after the root"),
    ("input_is_single", (Input("a"), Input("a")), "there is an input 'a' already"),
    (
        "name_is_identifier",
        (Input("a b"),),
        "'a b' is not a name: letters, digits and _, no digit first",
    ),
    (
        "type_is_known",
        (Input("a", "string"),),
        "'string' is no type (str, int, float, bool, list, map); did you mean 'str'?",
    ),
    (
        "state_is_earlier",
        (Input("a"), Text(1, ("a",))),
        "it continues node 1, an input, which is no state",
    ),
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
    (
        "branch_is_of_fork",
        (Sample(0, "a", SAMPLES), Branch(1, 2)),
        "its number is 2, but the fork makes 2 branches",
    ),
    (
        "branch_is_early",
        (*KEPT, Branch(1, 1)),
        "one branch of the fork is kept already",
    ),
    ("branch_is_own", (Fork(0, 1), Keep(1, 0)), "node 0 lies on no branch"),
    ("branch_is_own", (Fork(0, 1), Keep(1, 9)), "node 9 lies on no branch"),
    (
        "branch_is_own",
        (Fork(0, 1), Branch(1, 0), Fork(2, 1), Branch(3, 0), Keep(1, 4)),
        "node 4 lies on a branch of another state",
    ),
    (
        "state_is_at_its_fork",
        (Fork(0, 1), Branch(1, 0), Text(1, ("a",)), Keep(3, 2)),
        "the state has gone on since node 1 forked it; keep would lose that",
    ),
    (
        "branch_is_at_its_end",
        (Fork(0, 1), Branch(1, 0), Text(2, ("a",)), Keep(1, 2)),
        "node 2 is not the last of its branch",
    ),
    (
        "branch_is_live",
        (Fork(0, 2), Branch(1, 0), Branch(1, 1), Keep(1, 2), Keep(4, 3)),
        "node 3 lies on a branch that keep has released",
    ),
    # the branch that was kept, a sibling, what lies under a sibling, and what was called there
    ("state_is_live", (*KEPT, Text(2, ("a",))), RELEASED.format(2)),
    (
        "state_is_live",
        (Fork(0, 2), Branch(1, 0), Branch(1, 1), Keep(1, 2), Text(3, ("a",))),
        RELEASED.format(3),
    ),
    (
        "state_is_live",
        (Fork(0, 2), Branch(1, 0), Branch(1, 1), Fork(3, 1), Branch(4, 0), Keep(1, 2), Gen(5, "a")),
        RELEASED.format(5),
    ),
    (
        "state_is_live",
        (Fork(0, 2), Branch(1, 0), Branch(1, 1), Call(3, "p"), Keep(1, 2), Text(4, ("a",))),
        RELEASED.format(4),
    ),
    ("state_is_live", (*KEPT, Call(2, "p")), RELEASED.format(2)),
    # what lay under a branch that was kept within a sibling
    (
        "state_is_live",
        (
            Fork(0, 2),
            Branch(1, 0),
            Branch(1, 1),
            Fork(3, 1),
            Branch(4, 0),
            Fork(5, 1),
            Branch(6, 0),
            Keep(4, 6),
            Keep(1, 2),
            Gen(7, "a"),
        ),
        RELEASED.format(7),
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
                Text(4, (Ref(9), Ref(2, "prob"))),  # from the parent into a branch
                Close(10, "assistant"),
            ),
        )
    )


def test_what_is_allowed_with_inputs_samples_calls_and_keep() -> None:
    verify(
        Graph(
            "legal",
            (
                Root(),
                Input("topic"),
                Input("shots", "list"),
                Text(0, ("About ", Ref(1), Ref(2))),
                Sample(3, "plan", SAMPLES),
                Branch(4, 1),  # not every branch has to be there
                Fork(5, 2),  # inside the branch that is kept: it stays
                Branch(6, 0),
                Call(7, "outline"),
                Score(8, "merit", (Ref(5), "?")),  # the value of a sample's branch
                Fork(4, 2),  # a fork is no step: what was forked before can be kept
                Keep(10, 6),
                Gen(11, "b", SamplingParams(beams=4)),
                Gen(7, "a", type=Type("json", "{}")),
            ),
            ListOf((Ref(1), Ref(5, "prob"), Ref(9, "mean"))),
        )
    )


def test_a_ledger_refuses_and_does_not_enter() -> None:
    ledger = Ledger()
    ledger.note(Root())
    with pytest.raises(GraphError, match=r"^close: it closes user, but no turn is open"):
        check(ledger, Close(0, "user", span=Span("p.py", 1, 1)))
    assert ledger.nodes == [Root()]
    check(ledger, Open(0, "user"))
    assert ledger.note(Open(0, "user")) == 1
    assert ledger.role(1) == "user"


def test_keeps_that_refer_to_each_other_come_to_an_end() -> None:
    """Illegal, and told so: what a branch became is followed in one direction only."""
    fork = (Root(), Text(0, ("a",)), Text(1, ("a",)), Text(2, ("a",)), Fork(4, 3), Branch(4, 0))
    keeps = (Keep(10, 5), Text(4, ("a",)), Fork(6, 3), Branch(7, 0), Keep(8, 8), Keep(3, 8))
    for nodes in ((*fork, *keeps), (*fork, *keeps, *keeps)):
        with pytest.raises(GraphError):
            verify(Graph("p", nodes))

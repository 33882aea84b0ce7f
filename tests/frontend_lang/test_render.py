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
    Open,
    Ref,
    Root,
    Sample,
    Score,
    Select,
    Text,
    TextOf,
    TupleOf,
)
from ramet.nodes import KINDS
from ramet.params import SamplingParams
from ramet.render import render_result
from ramet.types import Type
from ramet.verify import verify

EVERYTHING = Graph(
    "everything",
    (
        Root(),
        Open(0, "user"),
        Text(1, ('say "é"\n',)),
        Close(2, "user"),
        Gen(3, "a", SamplingParams(max_tokens=48, stop="\n", logit_bias={5: 1})),
        Fork(4, 1),
        Branch(5, 0),
        Select(6, "b", ("x", "y"), "greedy", 0.5, 7),
        Text(5, ("got ", Ref(7), Ref(7, "prob"))),
        Gen(8, "c"),
    ),
    MapOf((("a", Ref(4)), ("odds", Ref(7, "probs")))),
)


def test_every_kind_of_node() -> None:
    verify(EVERYTHING)
    assert str(EVERYTHING) == (
        "program everything\n"
        "%0 = root\n"
        "%1 = open %0 user\n"
        '%2 = text %1 "say \\"é\\"\\n"\n'
        "%3 = close %2 user\n"
        '%4 = gen %3 as a (max_tokens=48, logit_bias={"5": 1.0}, stop=["\\n"])\n'
        "%5 = fork %4 into 1\n"
        "%6 = branch %5 number 0\n"
        '%7 = select %6 as b from ["x", "y"] (by="greedy", temperature=0.5, seed=7)\n'
        '%8 = text %5 "got " + %7 + %7.prob\n'
        "%9 = gen %8 as c\n"
        'return {"a": %4, "odds": %7.probs}'
    )


OPEN = Graph(
    "open",
    (
        Root(),
        Input("topic"),
        Input("shots", "list"),
        Text(0, ("About ", Ref(1))),
        Gen(3, "a", SamplingParams(max_tokens=8), Type("json", '{"type": "null"}')),
        Gen(4, "b", type=Type("int")),
        Sample(5, "c", SamplingParams(n=2, temperature=0.5), Type("regex", "x+")),
        Branch(6, 0),
        Score(7, "d", ("so ", Ref(7))),
        Call(8, "outline"),
        Keep(6, 8),
    ),
    ListOf((Ref(7), Ref(8, "mean"))),
)


def test_every_other_kind_of_node() -> None:
    verify(OPEN)
    assert str(OPEN) == (
        "program open\n"
        "%0 = root\n"
        "%1 = input topic str\n"
        "%2 = input shots list\n"
        '%3 = text %0 "About " + %1\n'
        '%4 = gen %3 as a type json("{\\"type\\": \\"null\\"}") (max_tokens=8)\n'
        "%5 = gen %4 as b type int\n"
        '%6 = sample %5 as c type regex("x+") (n=2, temperature=0.5)\n'
        "%7 = branch %6 number 0\n"
        '%8 = score %7 as d of "so " + %7\n'
        "%9 = call %8 outline\n"
        "%10 = keep %6 %8\n"
        "return [%7, %8.mean]"
    )


def test_every_kind_of_node_is_rendered_here() -> None:
    rendered = {type(node) for graph in (EVERYTHING, OPEN) for node in graph.nodes}
    assert rendered == set(KINDS.values())


def test_no_result_is_no_line() -> None:
    assert str(Graph("empty", (Root(),))) == "program empty\n%0 = root"


def test_every_kind_of_result() -> None:
    result = TupleOf((ListOf((Ref(1), None, True, 1.5, "x")), TextOf(("a", Ref(2))), TupleOf((1,))))
    assert render_result(result) == '([%1, null, true, 1.5, "x"], "a" + %2, (1,))'
    assert render_result(TupleOf(())) == "()"

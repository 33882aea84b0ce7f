from ramet.graph import (
    Branch,
    Close,
    Fork,
    Gen,
    Graph,
    ListOf,
    MapOf,
    Open,
    Ref,
    Root,
    Select,
    Text,
    TextOf,
    TupleOf,
)
from ramet.params import SamplingParams
from ramet.render import render_result
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


def test_no_result_is_no_line() -> None:
    assert str(Graph("empty", (Root(),))) == "program empty\n%0 = root"


def test_every_kind_of_result() -> None:
    result = TupleOf((ListOf((Ref(1), None, True, 1.5, "x")), TextOf(("a", Ref(2))), TupleOf((1,))))
    assert render_result(result) == '([%1, null, true, 1.5, "x"], "a" + %2, (1,))'
    assert render_result(TupleOf(())) == "()"

import math
from collections.abc import Callable
from copy import copy
from types import SimpleNamespace
from typing import Any

import pytest

from ramet.errors import AppendError, TraceError
from ramet.expressions import Sum, gen
from ramet.graph import Gen, Text
from ramet.nodes import Ref
from ramet.recorder import GraphRecorder
from ramet.state import State
from ramet.values import Gathered, Value, place


class Answers(GraphRecorder):
    """Answers what is read from a table, and notes every look."""

    def __init__(self, **answers: object) -> None:
        super().__init__()
        self.answers = answers
        self.looks: list[str] = []
        self.ids = {name: self.add(Gen(i, name)) for i, name in enumerate(answers)}

    def value(self, name: str) -> Value:
        return Value(self, Ref(self.ids[name]))

    def read(self, node: int) -> object:
        self.looks.append(self.binds(node).name)
        return self.answers[self.binds(node).name]

    def info(self, node: int) -> object:
        self.looks.append(f"{self.binds(node).name}'s info")
        return SimpleNamespace(prob=0.75, probs={"yes": 0.75, "no": 0.25}, tokens=[1, 2])


LOOKS: list[tuple[object, Callable[[Any], object], object]] = [
    ("yes", lambda v: v == "yes", True),
    ("yes", lambda v: v != "yes", False),
    ("yes", lambda v: v == "yes", True),
    ("yes", lambda v: v in ("no", "yes"), True),
    ("yes", lambda v: "e" in v, True),
    ("yes", lambda v: v < "z", True),
    ("yes", lambda v: v <= "yes", True),
    ("yes", lambda v: v > "z", False),
    ("yes", lambda v: v >= "yes", True),
    ("yes", bool, True),
    ("", bool, False),
    ("yes", str, "yes"),
    ("yes", lambda v: f"<{v}>", "<yes>"),
    ("yes", lambda v: f"{v:>5}", "  yes"),
    ("yes", lambda v: "%s" % v, "yes"),  # noqa: UP031
    ("yes", lambda v: len(f"{v}"), 3),
    ("yes", len, 3),
    ("yes", list, ["y", "e", "s"]),
    ("yes", lambda v: v[0], "y"),
    ("yes", lambda v: v[1:], "es"),
    ("yes", lambda v: v.upper(), "YES"),
    (" yes\n", lambda v: v.strip(), "yes"),
    ("yes", lambda v: {v: 1}["yes"], 1),
    ("yes", lambda v: v * 2, "yesyes"),
    ("yes", lambda v: 2 * v, "yesyes"),
    ("12", int, 12),
    ("1.5", float, 1.5),
    (7, lambda v: v + 1, 8),
    (7, lambda v: 1 + v, 8),
    (7, lambda v: v - 1, 6),
    (7, lambda v: 1 - v, -6),
    (7, lambda v: v * 2, 14),
    (7, lambda v: v / 2, 3.5),
    (7, lambda v: 14 / v, 2.0),
    (7, lambda v: v // 2, 3),
    (7, lambda v: 15 // v, 2),
    (7, lambda v: v % 4, 3),
    (7, lambda v: 8 % v, 1),
    (7, lambda v: -v, -7),
    (-7, abs, 7),
    (7.6, round, 8),
    (7.64, lambda v: round(v, 1), 7.6),
    (2, lambda v: ["a", "b", "c"][v], "c"),
    (["a", "b"], lambda v: v[1], "b"),
    (["a", "b"], lambda v: v.index("b"), 1),
]


@pytest.mark.parametrize(("answer", "look", "seen"), LOOKS)
def test_what_looks_waits_and_works_on_the_value(
    answer: object, look: Callable[[Any], object], seen: object
) -> None:
    recorder = Answers(x=answer)
    assert look(recorder.value("x")) == seen
    assert set(recorder.looks) == {"x"}


@pytest.mark.parametrize(("answer", "look", "seen"), LOOKS)
def test_a_trace_refuses_what_looks(
    answer: object, look: Callable[[Any], object], seen: object
) -> None:
    recorder = GraphRecorder()
    with pytest.raises(TraceError) as caught:
        look(Value(recorder, Ref(recorder.add(Gen(0, "x")))))
    assert caught.value.variable == "x"
    assert caught.value.span is not None
    assert caught.value.span.file == __file__


def test_two_values_compare_by_looking_at_both() -> None:
    recorder = Answers(x="a", y="b")
    assert recorder.value("x") < recorder.value("y")
    assert recorder.looks == ["x", "y"]


def test_joining_and_showing_do_not_look() -> None:
    recorder = Answers(x="a")
    value = recorder.value("x")
    joined = "<" + value + ">" + value + gen("y")
    assert isinstance(joined, Sum)
    assert [type(term).__name__ for term in joined.terms] == [
        "str", "Value", "str", "Value", "Generation",
    ]  # fmt: skip
    assert repr(value) == "<value of node 1>"
    assert repr(value.prob) == "<value of node 1.prob>"
    assert recorder.looks == []


def test_a_sum_of_texts_and_values_can_be_looked_at() -> None:
    recorder = Answers(x="a")
    joined = "<" + recorder.value("x") + ">"
    assert f"{joined}" == "<a>"
    assert joined == "<a>"
    assert len(joined) == 3
    assert joined.upper() == "<A>"


@pytest.mark.parametrize("look", [str, bool, len, lambda e: f"{e}", lambda e: e == "a"])
@pytest.mark.parametrize("expression", [gen("x"), "a" + gen("x")])
def test_an_expression_cannot_be_looked_at(look: Callable[[Any], object], expression: Any) -> None:
    with pytest.raises(AppendError) as caught:
        look(expression)
    assert caught.value.message == (
        "a generation has no value yet: append it first, or join it with +"
    )


def test_attributes_are_lazy_values() -> None:
    recorder = Answers(x="yes")
    value = recorder.value("x")
    prob, probs = value.prob, value.probs
    assert prob.ref_for(recorder) == Ref(1, "prob")
    assert recorder.looks == []
    assert prob > 0.5
    assert math.isclose(prob + 0.25, 1.0)
    assert probs["no"] == 0.25
    assert sorted(probs.items()) == [("no", 0.25), ("yes", 0.75)]
    assert set(recorder.looks) == {"x's info"}


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    value = Answers(x="yes").value("x")
    with pytest.raises(AttributeError, match=r"^a Value has no 'uper'; did you mean 'upper'\?$"):
        _ = value.uper
    assert not hasattr(value, "_hidden")
    assert place(copy(value)) == "1"


def test_a_value_of_another_run_is_refused() -> None:
    state = State(GraphRecorder())
    with pytest.raises(AppendError, match="this value belongs to another run of a program"):
        state += Answers(x="a").value("x")


def gathered(recorder: Answers) -> Gathered:
    return Gathered([recorder.value("x"), recorder.value("y")])


def test_a_gathered_list_knows_its_length_and_joins_without_looking() -> None:
    recorder = Answers(x="a", y="b")
    row = gathered(recorder)
    assert len(row) == 2
    assert len(row[1:]) == 1
    state = State(recorder, at=2)
    state += "[" + row.join(", ") + "]"
    assert recorder.nodes[-1] == Text(2, ("[", Ref(1), ", ", Ref(2), "]"))
    assert recorder.looks == []
    assert row[1] == "b"
    assert recorder.looks == ["y"]


def test_a_gathered_list_gives_real_values_when_iterated() -> None:
    recorder = Answers(x="a", y="b")
    row = gathered(recorder)
    assert list(row) == ["a", "b"]
    assert row == ["a", "b"]
    assert "b" in row
    assert max(row) == "b"
    assert list(row.prob) == [0.75, 0.75]
    assert repr(row) == "<values of nodes 1, 2>"
    with pytest.raises(AttributeError, match=r"^a list of values has no 'token'; did you mean"):
        _ = row.token

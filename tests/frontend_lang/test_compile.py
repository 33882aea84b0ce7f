from typing import Any

import pytest

import ramet
from ramet import State, gen
from ramet.errors import ArgumentError, LanguageError, TraceError
from ramet.nodes import Input
from ramet.passes import fill, simplify


@ramet.program
def tips(s: State, topic: str, n: int = 2) -> object:
    s += "About " + topic + "."
    with s.assistant():
        branches = s.fork(n)
        for branch in branches:
            branch += "Tip:" + gen("tip")
        s += branches["tip"].join(";")
        s += gen("summary")
    return {"summary": s["summary"], "topic": topic}


def test_a_parameter_without_argument_and_default_is_an_input() -> None:
    compiled = tips.compile()
    assert compiled.stops is None
    assert compiled.graph.inputs == (Input("topic"),)
    assert str(compiled.graph).splitlines()[2:4] == [
        "%1 = input topic str",
        '%2 = text %0 "About " + %1 + "."',
    ]


def test_filled_in_it_is_what_a_trace_gives() -> None:
    filled = simplify(fill(tips.compile(n=3).graph, {"topic": "tea"}))
    assert filled == simplify(tips.trace("tea", n=3))
    assert tips.compile(topic="tea", n=3).graph == filled


def test_what_is_compiled_is_simple() -> None:
    graph = tips.compile(topic="tea").graph
    assert simplify(graph) == graph


def test_types_of_inputs() -> None:
    @ramet.program
    def typed(
        s: State, a: int, b: "list[str]", c: dict[str, int], d: Any, *e: str, **f: str
    ) -> object:
        return [a, b, c, d, list(e), f]

    assert typed.compile().graph.inputs == (
        Input("a", "int"),
        Input("b", "list"),
        Input("c", "map"),
        Input("d", "str"),
    )


def test_a_look_at_a_value_stops_it_there() -> None:
    @ramet.program
    def agreeing(s: State, word: str) -> object:
        s += "Say " + word + ":" + gen("x")
        with s.user():
            s += "And"
            if s["x"] == "yes":
                s += "Good."
            s += gen("y")
        return s["y"]

    compiled = agreeing.compile()
    assert str(compiled.graph).splitlines()[3:] == [
        '%2 = text %0 "Say " + %1 + ":"',
        "%3 = gen %2 as x",
        "%4 = open %3 user",
        '%5 = text %4 "And"',
    ]
    assert compiled.graph.result is None
    assert isinstance(compiled.stops, TraceError)
    assert compiled.stops.variable == "x"
    assert 'if s["x"] == "yes":' in str(compiled.stops)


def test_a_look_at_an_argument_names_it_and_its_line() -> None:
    @ramet.program
    def spelled(s: State, shots: list[str], topic: str) -> None:
        s += "First. "
        s += f"About {topic}."
        for shot in shots:
            s += shot

    compiled = spelled.compile(shots=["a"])
    assert compiled.stops is not None
    assert compiled.stops.variable == "topic"
    assert 's += f"About {topic}."' in str(compiled.stops)
    compiled = spelled.compile(topic="tea")
    assert compiled.stops is not None
    assert (compiled.stops.variable, "for shot in shots:" in str(compiled.stops)) == ("shots", True)
    assert str(compiled.graph).splitlines()[-1] == '%2 = text %0 "First. About tea."'


def test_nothing_after_the_stop_is_certain() -> None:
    """Not even for a body that catches it."""

    @ramet.program
    def stubborn(s: State, topic: str) -> object:
        s += "a"
        try:
            len(topic)
        except Exception:
            s.fork(2)
        return "fallback"

    @ramet.program
    def swallowing(s: State, topic: str) -> object:
        s += "a"
        try:
            len(topic)
        except Exception:
            return "fallback"

    for program in (stubborn, swallowing):
        compiled = program.compile()
        assert compiled.stops is not None
        assert compiled.graph.result is None
        assert str(compiled.graph).splitlines()[-1] == '%2 = text %0 "a"'


def test_branches_that_may_still_bind_something_stay() -> None:
    @ramet.program
    def forked(s: State, topic: str) -> None:
        branches = s.fork(2)
        branches[0] += "a"
        len(topic)
        branches[0] += gen("x")

    assert str(forked.compile().graph).splitlines()[3:] == [
        "%2 = fork %0 into 2",
        "%3 = branch %2 number 0",
        '%4 = text %3 "a"',
        "%5 = branch %2 number 1",
    ]


def test_wrong_arguments_and_errors_of_the_body() -> None:
    with pytest.raises(ArgumentError, match="no parameter 'tpic'; did you mean 'topic'"):
        tips.compile(tpic="tea")
    with pytest.raises(ArgumentError, match="topic must be str, not 5"):
        tips.compile(topic=5)

    @ramet.program
    def wrong(s: State) -> object:
        return {1}

    with pytest.raises(LanguageError, match="a program cannot return a set"):
        wrong.compile()


def test_bound_arguments_are_known() -> None:
    assert tips.bind(topic="tea").compile() == tips.compile(topic="tea")
    with pytest.raises(ArgumentError, match="no parameter 'topic'"):
        tips.bind(topic="tea").compile(topic="rye")

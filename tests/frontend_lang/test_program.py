from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import ramet
from ramet import State, gen, select, system, user
from ramet.default import reset, set_default
from ramet.errors import ArgumentError, LanguageError, NoRunner, TraceError
from ramet.graph import resolve
from ramet.nodes import Ref
from ramet.program import Program
from ramet.recorder import GraphRecorder


@ramet.program
def classify(s: State, review: str) -> object:
    s += f"Review: {review}\nSentiment:"
    s += select("label", [" positive", " negative", " neutral"])
    return {"label": s["label"], "confidence": s["label"].prob}


@ramet.program
def few_shot(s: State, question: str, shots: list[dict[str, str]]) -> object:
    for shot in shots:
        s += f"Q: {shot['q']}\nA: {shot['a']}\n\n"
    s += f"Q: {question}\nA:"
    s += gen("answer", max_tokens=48, stop="\n")
    return s["answer"]


@ramet.program()
def tips(s: State, topic: str, n: int = 3) -> object:
    """Tips, and their summary."""
    s += system("You are a concise expert.")
    s += user(f"Give me {n} tips about {topic}.")
    with s.assistant():
        drafts = s.fork(n)
        for i, draft in enumerate(drafts):
            draft += f"Tip {i + 1}:"
            draft += gen("tip", max_tokens=48, stop="\n")
        s += "Here are the tips.\n" + drafts["tip"].join("\n") + "\nIn summary,"
        s += gen("summary", max_tokens=96)
    return s["summary"]


def test_classify() -> None:
    assert str(classify.trace(review="Fine.")) == (
        "program classify\n"
        "%0 = root\n"
        '%1 = text %0 "Review: Fine.\\nSentiment:"\n'
        '%2 = select %1 as label from [" positive", " negative", " neutral"]\n'
        'return {"label": %2, "confidence": %2.prob}'
    )


def test_few_shot() -> None:
    shots = [{"q": "1+1?", "a": "2"}, {"q": "2+2?", "a": "4"}]
    assert str(few_shot.trace("3+3?", shots)) == (
        "program few_shot\n"
        "%0 = root\n"
        '%1 = text %0 "Q: 1+1?\\nA: 2\\n\\n"\n'
        '%2 = text %1 "Q: 2+2?\\nA: 4\\n\\n"\n'
        '%3 = text %2 "Q: 3+3?\\nA:"\n'
        '%4 = gen %3 as answer (max_tokens=48, stop=["\\n"])\n'
        "return %4"
    )


def test_tips() -> None:
    assert str(tips.trace("sleep", n=2)) == (
        "program tips\n"
        "%0 = root\n"
        "%1 = open %0 system\n"
        '%2 = text %1 "You are a concise expert."\n'
        "%3 = close %2 system\n"
        "%4 = open %3 user\n"
        '%5 = text %4 "Give me 2 tips about sleep."\n'
        "%6 = close %5 user\n"
        "%7 = open %6 assistant\n"
        "%8 = fork %7 into 2\n"
        "%9 = branch %8 number 0\n"
        "%10 = branch %8 number 1\n"
        '%11 = text %9 "Tip 1:"\n'
        '%12 = gen %11 as tip (max_tokens=48, stop=["\\n"])\n'
        '%13 = text %10 "Tip 2:"\n'
        '%14 = gen %13 as tip (max_tokens=48, stop=["\\n"])\n'
        '%15 = text %8 "Here are the tips.\\n" + %12 + "\\n" + %14 + "\\nIn summary,"\n'
        "%16 = gen %15 as summary (max_tokens=96)\n"
        "%17 = close %16 assistant\n"
        "return %16"
    )


@pytest.mark.parametrize(
    "graph", [classify.trace("a"), few_shot.trace("a", []), tips.trace("a")], ids=lambda g: g.name
)
def test_the_programs_go_to_json_and_back(graph: ramet.Graph) -> None:
    assert ramet.from_json(ramet.to_json(graph)) == graph


@ramet.program
def rubric(s: State, subject: str) -> object:
    s += "Grade " + subject + ":"
    s += gen("grade")
    return s["grade"]


@ramet.program
def graded(s: State) -> object:
    s += gen("essay")
    grade = rubric(s, s["essay"])
    return [grade, s["grade"], ("<" + s["essay"] + ">",)]


def test_a_program_in_a_program_goes_on_with_the_state() -> None:
    assert str(graded.trace()) == (
        "program graded\n"
        "%0 = root\n"
        "%1 = gen %0 as essay\n"
        '%2 = text %1 "Grade " + %1 + ":"\n'
        "%3 = gen %2 as grade\n"
        'return [%3, %3, ("<" + %1 + ">",)]'
    )


@ramet.program
def agreeing(s: State, word: str = "yes") -> object:
    s += gen("x")
    if s["x"].strip() == word:
        s += "Good."
    return {"text": s["x"], "length": len(f"{s['x']}")}


def test_a_trace_ends_where_a_value_is_needed() -> None:
    with pytest.raises(TraceError) as caught:
        agreeing.trace()
    assert caught.value.variable == "x"
    assert 'if s["x"].strip() == word:' in str(caught.value)


class Engine(GraphRecorder):
    """The smallest runner: one recorder a run, every value is ` yes`."""

    def run(self, program: Program[..., Any], /, *args: object, **kwargs: object) -> object:
        run = Engine()
        result = program.record(run, program.bind_arguments(*args, **kwargs))
        return resolve(result, run.answer)

    def run_batch(
        self, program: Program[..., Any], arguments: Sequence[Mapping[str, Any]], /
    ) -> object:
        return [self.run(program, **each) for each in arguments]

    def stream(self, program: Program[..., Any], /, *args: object, **kwargs: object) -> object:
        return iter([self.run(program, *args, **kwargs)])

    def answer(self, ref: Ref) -> object:
        return getattr(self.info(ref.node), ref.attribute) if ref.attribute else self.read(ref.node)

    def read(self, node: int) -> object:
        return " yes"

    def info(self, node: int) -> object:
        return SimpleNamespace(prob=0.5)


def test_a_body_that_looks_runs_on_a_recorder_with_values() -> None:
    assert Engine().run(agreeing) == {"text": " yes", "length": 4}
    assert Engine().run(classify, "a") == {"label": " yes", "confidence": 0.5}


def test_run_goes_to_the_default_engine() -> None:
    token = set_default(Engine())
    try:
        assert agreeing.run(word="no") == {"text": " yes", "length": 4}
        assert agreeing.run_batch([{}, {"word": "a"}]) == 2 * [{"text": " yes", "length": 4}]
        assert list(agreeing.stream("a")) == [{"text": " yes", "length": 4}]
    finally:
        reset(token)
    with pytest.raises(NoRunner) as caught:
        agreeing.run()
    assert str(caught.value) == (
        "no engine to run 'agreeing' with: call it inside `with engine:`, "
        "or use engine.run(agreeing, ...)"
    )


def test_arguments_come_with_defaults() -> None:
    assert tips.bind_arguments("a") == {"topic": "a", "n": 3}
    assert tips.bind_arguments(n=2, topic="a") == {"topic": "a", "n": 2}


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "tips(topic: str, n: int = 3): missing a required argument: 'topic'"),
        (("a", 1, 2), {}, "tips(topic: str, n: int = 3): too many positional arguments"),
        (
            (),
            {"tpic": "a"},
            "tips(topic: str, n: int = 3): no parameter 'tpic'; did you mean 'topic'?",
        ),
        (
            ("a",),
            {"topic": "b"},
            "tips(topic: str, n: int = 3): multiple values for argument 'topic'",
        ),
        (("a", "3"), {}, "tips: n must be int, not '3'"),
        (("a", True), {}, "tips: n must be int, not True"),
        ((["a"],), {}, "tips: topic must be str, not a list"),
    ],
)
def test_wrong_arguments(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        tips.trace(*args, **kwargs)
    assert str(caught.value) == message
    assert isinstance(caught.value, TypeError)


def test_simple_types_and_what_fits_them() -> None:
    @ramet.program
    def typed(
        s: State, f: float, b: bool, x: "list[str]", d: dict[str, int], o: int | None
    ) -> None:
        """Annotated in every way that is looked at, and in one that is not."""

    good: list[tuple[Any, ...]] = [(1, True, ("a",), {}, "any"), (1.5, False, [], {"a": 1}, None)]
    bad: list[tuple[Any, ...]] = [
        (True, True, [], {}, None),
        (1.0, 1, [], {}, None),
        (1.0, True, "ab", {}, None),
        (1.0, True, [], [], None),
    ]
    for arguments in good:
        assert tuple(typed.bind_arguments(*arguments).values()) == arguments
    for arguments in bad:
        with pytest.raises(ArgumentError):
            typed.bind_arguments(*arguments)


def test_rest_parameters() -> None:
    @ramet.program
    def rest(s: State, first: str, *context: str, **more: str) -> None:
        s += first + "".join(context) + "".join(more.values())

    assert rest.bind_arguments("a", "b", c="c") == {
        "first": "a",
        "context": ("b",),
        "more": {"c": "c"},
    }
    assert str(rest.trace("a", "b", c="c")).endswith('text %0 "abc"')


def test_bind_fixes_arguments() -> None:
    about = tips.bind(n=1)
    assert repr(about) == "<program tips(topic: str)>"
    assert about.bind_arguments("a") == {"n": 1, "topic": "a"}
    assert about.trace("a") == tips.trace("a", 1)
    assert about.bind(topic="a").trace() == tips.trace("a", 1)
    with pytest.raises(ArgumentError, match="no parameter 'n'"):
        about.trace("a", n=2)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ArgumentError, match="no parameter 'm'"):
        tips.bind(m=2)
    with pytest.raises(ArgumentError, match="n must be int, not '2'"):
        tips.bind(n="2")


def test_a_program_looks_like_its_function() -> None:
    assert (tips.name, tips.__name__, tips.__doc__) == ("tips", "tips", "Tips, and their summary.")
    assert str(tips.signature) == "(topic: str, n: int = 3)"
    assert ramet.program(name="other")(lambda s: None).name == "other"


def test_a_program_needs_a_state() -> None:
    with pytest.raises(ArgumentError) as caught:
        tips("sleep")  # pyright: ignore[reportArgumentType]
    assert caught.value.message == (
        "tips is a program: call it as tips(state, ...) inside another one, "
        "and as tips.run(...) elsewhere"
    )


def test_what_is_no_program() -> None:
    async def waiting(s: State) -> None:
        pass

    def keyword(*, s: State) -> None:
        pass

    with pytest.raises(LanguageError, match="a plain function, no async one"):
        ramet.program(waiting)
    for body in (keyword, lambda: None):
        with pytest.raises(LanguageError, match="the first parameter of a program is its state"):
            ramet.program(body)  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_a_program_returns_what_json_can_hold() -> None:
    def returning(value: object) -> ramet.Graph:
        return ramet.program(name="p")(lambda s: value).trace()

    assert returning({"a": [1, 2.5, (None, True)]}) is not None
    assert returning(None).result is None
    with pytest.raises(LanguageError, match="a program cannot return a set; it returns values"):
        returning({1})
    with pytest.raises(LanguageError, match="a program cannot return a Generation"):
        returning(gen("x"))
    with pytest.raises(LanguageError, match="a key that a program returns must be a string, not 1"):
        returning({1: 2})
    with pytest.raises(LanguageError, match="inf is no number in JSON"):
        returning(float("inf"))
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(LanguageError, match="may nest 32 deep at most"):
        returning(endless)


def test_gathered_values_are_returned_as_a_list() -> None:
    @ramet.program
    def drafts(s: State) -> object:
        branches = s.fork(2)
        for branch in branches:
            branch += gen("x")
        return branches["x"].prob

    assert str(drafts.trace()).endswith("\nreturn [%4.prob, %5.prob]")


# -- a program that calls another one on a state of its own


@ramet.program
def outline(s: State, topic: str) -> object:
    s += "Outline " + topic + ":" + gen("points")
    return s["points"]


@ramet.program
def essay(s: State) -> object:
    s += "Write." + gen("topic")
    first = outline.run(topic=s["topic"])  # pyright: ignore[reportArgumentType]
    s += first.value
    second = outline.call(s, "tea")
    return [second, s["topic"]]


def test_a_call_begins_on_an_empty_state() -> None:
    assert str(essay.trace()) == (
        "program essay\n"
        "%0 = root\n"
        '%1 = text %0 "Write."\n'
        "%2 = gen %1 as topic\n"
        "%3 = call %2 outline\n"
        '%4 = text %3 "Outline " + %2 + ":"\n'
        "%5 = gen %4 as points\n"
        "%6 = text %2 %5\n"
        "%7 = call %6 outline\n"
        '%8 = text %7 "Outline tea:"\n'
        "%9 = gen %8 as points\n"
        "return [%9, %2]"
    )


def test_a_call_without_a_return_gives_its_variables() -> None:
    @ramet.program
    def inner(s: State) -> None:
        s += "a" + gen("x") + gen("y")

    @ramet.program
    def outer(s: State) -> object:
        s += "b"
        found = inner.call(s)
        assert list(found) == ["x", "y"]
        assert "x" not in s
        return [inner.run()["x"], found["y"]]

    assert str(outer.trace()).endswith("return [%8, %5]")


def test_programs_call_programs_from_branches_and_calls() -> None:
    @ramet.program
    def deep(s: State, depth: int) -> object:
        s += str(depth) + gen("x")
        if depth:
            deep.run(depth=depth - 1)
        return s["x"]

    @ramet.program
    def wide(s: State) -> None:
        s += "a"
        s.fork(2).each(lambda branch, item: deep.run(depth=1))

    calls = [line for line in str(wide.trace()).splitlines() if "call" in line]
    assert calls == [
        "%5 = call %3 deep",
        "%8 = call %7 deep",
        "%11 = call %4 deep",
        "%14 = call %13 deep",
    ]


def test_a_call_checks_its_arguments() -> None:
    @ramet.program
    def outer(s: State, *args: Any) -> None:
        outline.run(*args)

    with pytest.raises(ArgumentError, match="missing a required argument: 'topic'"):
        outer.trace()
    with pytest.raises(ArgumentError, match="topic must be str, not 5"):
        outer.trace(5)


def test_a_body_that_ended_leaves_no_state_to_call_from() -> None:
    essay.trace()
    with pytest.raises(NoRunner):
        outline.run(topic="a")

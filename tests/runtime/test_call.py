"""Programs that call others, on a model that can be worked out."""

import pytest

import ramet
from ramet.runtime import Engine
from ramet.runtime.errors import PromptError
from tests.runtime.conftest import ToyEngine
from tests.runtime.legible import legible, letters
from tests.runtime.running import gen, outline, run


@pytest.fixture(params=[4, 16])
def engine(request: pytest.FixtureRequest, toy_engine: ToyEngine) -> Engine:
    return legible(toy_engine(block_size=request.param))


def test_a_call_runs_on_an_empty_context(engine: Engine) -> None:
    @ramet.program
    def essay(s: ramet.State) -> object:
        s += "Write."
        called = outline.run(topic="tea")
        s += called.value
        s += gen("end")
        return [called.value, s["end"]]

    points = letters(engine, "Outline tea:", 8)
    done = run(engine, essay)
    assert done.value == [points, letters(engine, f"Write.{points}", 4)]
    assert done.text == f"Write.{points}{done['end']}"
    assert [state.text for state in done.root.branches] == [f"Outline tea:{points}"]
    assert run(engine, essay.trace()).value == done.value


def test_a_call_runs_beside_its_caller(engine: Engine) -> None:
    @ramet.program
    def both(s: ramet.State) -> object:
        s += "abc"
        one, two = outline.call(s, "tea"), outline.call(s, "rye")
        s += gen("x", 8)
        return [s["x"], one, two]

    steps = engine.stats().steps
    assert run(engine, both).value == [
        letters(engine, "abc", 8),
        letters(engine, "Outline tea:", 8),
        letters(engine, "Outline rye:", 8),
    ]
    assert engine.stats().steps - steps <= 8 + 2


def test_a_call_in_every_branch(engine: Engine) -> None:
    @ramet.program
    def wide(s: ramet.State) -> object:
        s += "abc"
        found = dict[str, object]()

        def body(branch: ramet.State, topic: str) -> None:
            branch += topic
            found[topic] = len(outline.run(topic=topic).value) and outline.call(branch, topic)

        s.fork(["tea", "rye"]).each(body)
        return [found["tea"], found["rye"]]

    assert run(engine, wide).value == [letters(engine, f"Outline {t}:", 8) for t in ("tea", "rye")]


def test_the_draws_of_two_calls_differ(engine: Engine) -> None:
    @ramet.program
    def drawn(s: ramet.State) -> object:
        s += "a" + gen("x", 12, temperature=1.5)
        return s["x"]

    @ramet.program
    def caller(s: ramet.State) -> object:
        return [drawn.call(s), drawn.call(s)]

    one, two = run(engine, caller).value
    assert one != two
    assert run(engine, caller).value == [one, two]


def test_an_error_in_a_call_ends_the_run(engine: Engine) -> None:
    @ramet.program
    def empty(s: ramet.State) -> object:
        s += gen("x")
        return s["x"]

    @ramet.program
    def caller(s: ramet.State) -> object:
        s += "abc" + gen("y", 50)
        return empty.call(s)

    with pytest.raises(PromptError):
        run(engine, caller)

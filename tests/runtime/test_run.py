"""One run moved on by hand: the body in its greenlet, its outcome, and what it leaves."""

import contextvars
import gc
import threading
import weakref
from typing import Any

import pytest
from greenlet import greenlet

import ramet
from ramet.runtime import Engine, EngineError
from ramet.runtime.errors import Aborted
from ramet.runtime.run import Run
from tests.runtime.conftest import ToyEngine, all_back, toy_model, toy_words


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Engine:
    return toy_engine()


def gen(name: str, count: int = 4) -> Any:
    return ramet.gen(name, max_tokens=count, ignore_eos=True)


@ramet.program
def plain(s: ramet.State, text: str) -> object:
    s += text
    s += gen("x")
    return s["x"]


@ramet.program
def looks(s: ramet.State, text: str, times: int) -> object:
    s += text
    for index in range(times):
        s += gen(f"x{index}", 2)
        s += str(len(s[f"x{index}"]))
    return s[f"x{times - 1}"]


def finish(engine: Engine, *runs: Any) -> None:
    while not all(run.done for run in runs):
        engine.round(runs)
        engine.audit()


def test_nothing_runs_before_it_is_moved_on(engine: Engine) -> None:
    reached: list[str] = []

    @ramet.program
    def told(s: ramet.State) -> None:
        reached.append("body")

    run = engine.start(told, {})
    assert reached == []
    run.advance()
    assert reached == ["body"]
    assert run.done
    assert run.result().value == {}
    assert engine.stats().steps == 0


def test_advance_returns_when_all_of_it_waits(engine: Engine) -> None:
    run = engine.start(looks, {"text": "abc", "times": 3})
    run.advance()
    run.advance()
    assert not run.done
    assert engine.core.busy
    with pytest.raises(AssertionError):
        run.result()
    finish(engine, run)
    assert all_back(engine.core)


def test_a_run_that_is_over_is_left_alone(engine: Engine) -> None:
    run = engine.start(plain, {"text": "abc"})
    finish(engine, run)
    run.advance()
    run.abort()
    assert run.error is None
    assert run.result().value == run.outcome().value == toy_words(engine.tokenizer, "abc", 4)  # type: ignore[union-attr]


def test_aborted_before_it_began(engine: Engine) -> None:
    run = engine.start(looks, {"text": "abc", "times": 1})
    run.abort()
    assert isinstance(run.outcome(), Aborted)
    assert run.partial().text == ""
    run.advance()
    assert all_back(engine.core)


def test_many_runs_wait_in_one_thread(engine: Engine) -> None:
    runs = [engine.start(looks, {"text": f"{index}:", "times": 3}) for index in range(300)]
    finish(engine, *runs)
    assert all(run.error is None for run in runs)
    # All of them draw side by side: 3 × 2 tokens, and what the budget makes of the prompts.
    assert engine.stats().steps < 30
    assert all_back(engine.core)


def test_the_body_sees_the_context_variables_of_its_caller(engine: Engine) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("seen")

    @ramet.program
    def reads(s: ramet.State) -> object:
        return variable.get()

    assert engine.run(reads).value == "seen"


def test_a_program_that_runs_another_one(engine: Engine) -> None:
    """`inner.run(...)` in a body finds the default engine; the others go on meanwhile."""

    @ramet.program
    def outer(s: ramet.State) -> object:
        s += "outer "
        s += gen("a")
        inner = plain.run(text="inner " + str(s["a"]))
        s += " then " + inner.value
        s += gen("b")
        return inner.value, s["b"]

    with engine:
        beside = engine.start(plain, {"text": "beside"})
        run = engine.start(outer, {})
        finish(engine, beside, run)
        a = toy_words(engine.tokenizer, "outer ", 4)
        assert run.result().value[0] == toy_words(engine.tokenizer, "inner " + a, 4)
        assert beside.result().value == toy_words(engine.tokenizer, "beside", 4)
    assert all_back(engine.core)


def test_a_program_that_is_run_from_an_event(engine: Engine) -> None:
    """In the middle of a step of the same engine: those that have yet to draw draw afterwards."""
    values: list[object] = []

    def listener(event: object) -> None:
        if not values:
            values.append(None)
            values[0] = engine.run(plain, text="nested").value
            engine.audit()

    first = engine.start(plain, {"text": "first"}, on_event=listener)
    second = engine.start(plain, {"text": "second"})
    finish(engine, first, second)
    assert values == [toy_words(engine.tokenizer, "nested", 4)]
    assert first.result().value == toy_words(engine.tokenizer, "first", 4)
    assert second.result().value == toy_words(engine.tokenizer, "second", 4)
    assert all_back(engine.core)


def test_a_value_outlives_its_run(engine: Engine) -> None:
    kept: list[Any] = []

    @ramet.program
    def leaks(s: ramet.State) -> None:
        s += "abc"
        s += gen("x")
        kept.append(s["x"])

    engine.run(leaks)
    assert str(kept[0]) == toy_words(engine.tokenizer, "abc", 4)


def test_a_value_that_is_not_there_is_not_waited_for_from_outside(engine: Engine) -> None:
    kept: list[Any] = []

    @ramet.program
    def leaks(s: ramet.State) -> None:
        s += "abc"
        s += gen("x")
        kept.append(s["x"])

    run = engine.start(leaks, {})
    run.advance()
    with pytest.raises(ramet.TraceError, match="the value of 'x' is needed here"):
        str(kept[0])
    finish(engine, run)


def test_a_value_of_another_run(engine: Engine) -> None:
    kept: list[Any] = []

    @ramet.program
    def leaks(s: ramet.State) -> None:
        s += "abc"
        s += gen("x")
        kept.append(s["x"])

    @ramet.program
    def takes(s: ramet.State) -> None:
        s += "so " + kept[0]

    engine.run(leaks)
    with pytest.raises(ramet.AppendError, match="another run"):
        engine.run(takes)


def test_a_run_may_be_driven_from_different_greenlets(engine: Engine) -> None:
    run = engine.start(looks, {"text": "abc", "times": 3})
    while not run.done:
        greenlet(lambda: engine.round([run])).switch()
        engine.audit()
    assert run.error is None


def test_an_aborted_body_reads_on_and_is_left(engine: Engine) -> None:
    """It is unwound by whoever aborts, also from another greenlet than the one that drove it."""

    @ramet.program
    def stubborn(s: ramet.State) -> None:
        s += "abc"
        s += gen("x")
        try:
            len(s["x"])
        finally:
            len(s["x"])

    run = engine.start(stubborn, {})
    greenlet(lambda: engine.round([run])).switch()
    run.abort()
    assert isinstance(run.error, Aborted)
    assert all_back(engine.core)


def test_exceptions_of_the_body_arrive_as_they_are(engine: Engine) -> None:
    class OwnError(Exception):
        pass

    @ramet.program
    def raises(s: ramet.State) -> None:
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        engine.run(raises)


def test_a_body_may_catch_what_it_did_wrong(engine: Engine) -> None:
    @ramet.program
    def careful(s: ramet.State) -> object:
        s += "abc"
        try:
            s += ramet.gen("x", max_tokens=0)
        except ramet.ParameterError:
            s += gen("x")
        return s["x"]

    assert engine.run(careful).value == toy_words(engine.tokenizer, "abc", 4)


def test_an_error_of_the_engine_ends_the_body_where_it_waits(engine: Engine) -> None:
    """It cannot be caught there: the run is over."""
    seen: list[str] = []

    @ramet.program
    def catches(s: ramet.State) -> None:
        s += "abc"
        s += gen("x")
        try:
            len(s["x"])
        except Exception:
            seen.append("caught")
        finally:
            seen.append("unwound")

    toy_model(engine.core).fail_at = {0}
    with pytest.raises(EngineError, match="the device caught fire"):
        engine.run(catches)
    assert seen == ["unwound"]
    assert all_back(engine.core)


def test_the_graph_of_a_run_is_what_it_came_to(engine: Engine) -> None:
    run = engine.start(looks, {"text": "abc", "times": 2})
    finish(engine, run)
    graph = run.result().graph
    assert graph.name == "looks"
    assert [type(node).__name__ for node in graph.nodes] == [
        "Root",
        "Text",
        "Gen",
        "Text",
        "Gen",
        "Text",
    ]
    ramet.verify(graph)


def test_a_finished_run_is_forgotten(engine: Engine) -> None:
    run = engine.start(looks, {"text": "abc", "times": 2})
    finish(engine, run)
    engine.core.step()
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None


def test_a_round_moves_on_only_what_can_go_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = list[Run]()
    advance = Run.advance
    monkeypatch.setattr(Run, "advance", lambda run: moved.append(run) or advance(run))
    first = engine.start(looks, {"text": "abc", "times": 2})
    others = [engine.start(plain, {"text": f"{at}"}) for at in range(20)]
    runs = dict.fromkeys([first, *others])
    assert engine.round(runs) == []
    assert moved == [first, *others]
    moved.clear()
    assert engine.round(runs) == []
    assert moved == [first], "it waited for two tokens, and the others wait for four"
    while not (ended := engine.round(runs)):
        pass
    assert set(ended) == {run for run in runs if run.done}
    assert set(moved) == {first, *ended}
    finish(engine, *runs)


def test_runs_of_another_driver_wait_for_it(engine: Engine) -> None:
    mine, other = (engine.start(plain, {"text": text}) for text in ("mine", "other"))
    while not mine.done:
        assert engine.round([mine]) == ([mine] if mine.done else [])
    assert not other.partial().text
    finish(engine, other)
    assert other.result().value == toy_words(engine.tokenizer, "other", 4)


def test_a_run_that_waits_ends_when_its_time_is_over(engine: Engine) -> None:
    waits, beside = (engine.start(plain, {"text": text}) for text in ("abc", "beside"))
    engine.round([waits, beside])
    waits.meter._ends = 0.0
    assert engine.round([waits, beside]) == [waits]
    assert isinstance(waits.error, ramet.LimitError)
    finish(engine, beside)
    assert all_back(engine.core)


def test_a_state_dropped_elsewhere_gives_its_blocks_back(engine: Engine) -> None:
    kept: list[ramet.State] = []

    @ramet.program
    def leaks(s: ramet.State) -> None:
        s += "abc"
        kept.append(s.fork(1)[0])
        kept[0] += "d" + gen("y", 2)
        s += gen("x", 30)
        len(s["x"])

    run = engine.start(leaks, {})
    for _ in range(6):
        engine.round([run])
    held = engine.stats().sequences
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    engine.round([run])
    assert engine.stats().sequences < held
    finish(engine, run)
    assert all_back(engine.core)

"""Types compile beside the loop: nobody else waits for them, and nothing of them is left behind."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet.errors import LimitError
from ramet.limits import Limits
from ramet.runtime import AsyncEngine, Engine, Finished
from ramet.runtime.config import EngineConfig
from ramet.runtime.errors import Aborted, EngineClosed, EngineError, GrammarError
from ramet.runtime.grammar import Grammar, GrammarCompiler, trial
from ramet.runtime.run import Run
from ramet.runtime.tokenizer import Tokenizer
from ramet.types import Type
from tests.runtime.conftest import ToyEngine, ToyModel, all_back
from tests.runtime.grammar import walks

SLOW = "[a-c]{3}"


@ramet.program
def typed(s: ramet.State, pattern: str) -> None:
    s += "Well: " + ramet.gen("x", regex=pattern)


@ramet.program
def free(s: ramet.State) -> None:
    s += "Well: " + ramet.gen("x", max_tokens=20, ignore_eos=True)


class Gate:
    """Holds every compilation of the slow pattern back until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.compiled: list[Type] = []
        self.open = threading.Event()
        self.entered = threading.Event()
        self.others = threads()
        compiled: Callable[..., Grammar] = GrammarCompiler._compiled

        def held(compiler: GrammarCompiler, type: Type, *rest: Any) -> Grammar:
            self.compiled.append(type)
            if type.source == SLOW:
                self.entered.set()
                assert self.open.wait(20)
            return compiled(compiler, type, *rest)

        monkeypatch.setattr(GrammarCompiler, "_compiled", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()


@pytest.fixture
def engine(toy_engine: ToyEngine, gate: Gate) -> Iterator[Engine]:
    made = toy_engine()
    yield made
    gate.open.set()
    made.close()
    assert all_back(made.core)
    assert not made.core.grammars.awaited
    assert threads() <= gate.others


def threads() -> set[threading.Thread]:
    """Threads of grammars that are still there."""
    names = ("ramet-grammar", "ramet-mask")
    return {thread for thread in threading.enumerate() if thread.name.startswith(names)}


def rounds(engine: Engine, runs: list[Run], until: Callable[[], bool]) -> int:
    """Rounds until that is so."""
    for taken in range(10_000):
        if until():
            return taken
        engine.round(runs)
    raise AssertionError("it never is")


def test_others_go_on_meanwhile(engine: Engine, gate: Gate) -> None:
    slow, other = engine.start(typed, {"pattern": SLOW}), engine.start(free, {})
    rounds(engine, [slow, other], lambda: other.done)
    assert len(str(other.result()["x"])) == 20
    assert not slow.done
    gate.open.set()
    rounds(engine, [slow], lambda: slow.done)
    assert len(str(slow.result()["x"])) == 3


def test_who_only_waits_sleeps(engine: Engine, gate: Gate) -> None:
    slow = engine.start(typed, {"pattern": SLOW})
    timer = threading.Timer(0.5, gate.open.set)
    timer.start()
    cpu = time.process_time()
    assert rounds(engine, [slow], lambda: slow.done) < 40
    assert time.process_time() - cpu < 0.4
    timer.join()


def test_many_that_ask_at_once_get_one_compilation(engine: Engine, gate: Gate) -> None:
    @ramet.program
    def several(s: ramet.State) -> None:
        s += "Well: "
        for branch in s.fork(3):
            branch += ramet.gen("x", regex=SLOW, n=2, temperature=1.0)

    runs = [engine.start(several, {}) for _ in range(3)]
    engine.round(runs)
    gate.open.set()
    rounds(engine, runs, lambda: all(run.done for run in runs))
    assert gate.compiled == [Type("regex", SLOW)]


def test_what_is_refused_is_refused_to_each(engine: Engine, gate: Gate) -> None:
    outcomes = engine.run_batch(typed, [{"pattern": "["}] * 3)
    assert [type(each) for each in outcomes] == [GrammarError] * 3
    assert len({id(each) for each in outcomes}) == 3
    assert [len(each.__notes__) for each in outcomes if isinstance(each, Exception)] == [1] * 3
    assert len(gate.compiled) == 1


def test_a_run_that_waits_is_cancelled_at_once(engine: Engine, gate: Gate) -> None:
    slow, other = (engine.start(typed, {"pattern": SLOW}) for _ in range(2))
    rounds(engine, [slow, other], gate.entered.is_set)
    slow.abort()
    with pytest.raises(Aborted):
        slow.result()
    assert engine.core.grammars.awaited
    gate.open.set()
    rounds(engine, [other], lambda: other.done)
    assert isinstance(other.outcome(), Finished)


def test_all_that_wait_are_cancelled(engine: Engine, gate: Gate) -> None:
    slow = engine.start(typed, {"pattern": SLOW})
    rounds(engine, [slow], gate.entered.is_set)
    slow.abort()
    assert not engine.core.grammars.awaited
    assert all_back(engine.core)


def test_a_wait_counts_as_time(byte_tokenizer: Tokenizer, gate: Gate) -> None:
    config = EngineConfig(num_blocks=64, limits=Limits(seconds=0.3))
    engine = Engine.of(ToyModel(), byte_tokenizer, config)
    started = time.monotonic()
    with pytest.raises(LimitError):
        engine.run(typed, pattern=SLOW)
    assert time.monotonic() - started < 5
    gate.open.set()
    engine.close()


def test_closing_leaves_no_thread(engine: Engine, gate: Gate) -> None:
    done = engine.run(typed, pattern="[a-z]{5}")
    assert len(str(done["x"])) == 5
    assert threads() > gate.others
    engine.close()
    engine.close()
    assert threads() <= gate.others


def test_what_nobody_began_is_not_compiled_after_closing(engine: Engine, gate: Gate) -> None:
    grammars = engine.core.grammars
    slow = grammars.compile(Type("regex", SLOW))
    queued = grammars.compile(Type("regex", "[ab]c"))
    assert gate.entered.wait(20)
    timer = threading.Timer(0.2, gate.open.set)
    timer.start()
    grammars.close()
    assert slow.start().size
    with pytest.raises(EngineClosed):
        queued.start()
    with pytest.raises(EngineClosed):
        grammars.compile(Type("regex", "[ab]d"))
    timer.join()


def test_a_text_goes_on_without_the_thread(engine: Engine) -> None:
    grammar = engine.core.grammars.start(Type("regex", "[ab]{3}"))
    engine.close()
    grammar.accept(walks.allowed(grammar)[0])
    grammar.look_ahead()
    assert grammar.mask().any()


def test_on_the_engines_own_thread(engine: Engine, gate: Gate) -> None:
    """New requests, cancellations and answers wake it; it neither sleeps on nor spins."""

    async def main() -> None:
        async with AsyncEngine.of(engine) as served:
            waiting = [asyncio.create_task(served.run(typed, pattern=SLOW)) for _ in range(3)]
            await asyncio.to_thread(gate.entered.wait, 20)
            await asyncio.sleep(0.1)
            started = time.monotonic()
            assert isinstance(await served.run(free), Finished)
            assert time.monotonic() - started < 5
            waiting[0].cancel()
            cpu = time.process_time()
            await asyncio.sleep(0.3)
            assert time.process_time() - cpu < 0.25
            gate.open.set()
            done = await asyncio.gather(*waiting[1:])
            assert [len(str(each["x"])) for each in done] == [3, 3]
            with pytest.raises(asyncio.CancelledError):
                await waiting[0]

    asyncio.run(asyncio.wait_for(main(), 30))


def test_masks_of_a_run_that_ends_meanwhile(engine: Engine, monkeypatch: Any) -> None:
    """Whatever the moment: a mask that is under way is waited for, and disturbs nobody."""
    inner = Grammar._next

    def slowly(grammar: Grammar) -> Any:
        time.sleep(0.002)
        return inner(grammar)

    monkeypatch.setattr(Grammar, "_next", slowly)
    expected = [engine.run(typed, pattern=f"[a-z]{{{n}}}")["x"] for n in (3, 9, 20)]
    for moment in range(8):
        runs = [engine.start(typed, {"pattern": f"[a-z]{{{n}}}"}) for n in (3, 9, 20)]
        victim = engine.start(typed, {"pattern": "[a-z]{20}"})
        for _ in range(moment):
            engine.round([*runs, victim])
        victim.abort()
        rounds(engine, runs, lambda: all(run.done for run in runs))  # noqa: B023
        assert [run.result()["x"] for run in runs] == expected


def test_other_runs_wake_what_waits_once(engine: Engine, gate: Gate) -> None:
    """Rounds of another run come between the end of a compilation and the run that waits for it."""
    waiting = engine.start(typed, {"pattern": SLOW})
    rounds(engine, [waiting], gate.entered.is_set)
    gate.open.set()
    rounds(engine, [waiting, other := engine.start(free, {})], lambda: engine.core.busy)
    while not other.done:
        engine.round([other])
    rounds(engine, [waiting], lambda: waiting.done)
    assert re.fullmatch(SLOW, str(waiting.result()["x"]))


def test_a_run_beside_a_stream_that_waits(engine: Engine, gate: Gate) -> None:
    stream = engine.stream(typed, pattern=SLOW)
    rounds(engine, [stream._run], gate.entered.is_set)
    gate.open.set()
    time.sleep(0.2)
    engine.run(free)
    assert re.fullmatch(SLOW, str(stream.result()["x"]))


def test_what_nobody_waits_for_any_more_is_not_compiled(engine: Engine, gate: Gate) -> None:
    first = engine.start(typed, {"pattern": SLOW})
    others = [engine.start(typed, {"pattern": f"a{{{n}}}"}) for n in range(2, 8)]
    rounds(engine, [first, *others], gate.entered.is_set)
    for run in others:
        run.abort()
    gate.open.set()
    rounds(engine, [first], lambda: first.done)
    assert [each.source for each in gate.compiled] == [SLOW]
    again = engine.start(typed, {"pattern": "a{2}"})
    rounds(engine, [again], lambda: again.done)
    assert again.result()["x"] == "aa"


def test_a_failure_that_is_not_the_types_is_not_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = GrammarCompiler._compiled
    left = [OSError("no process can be started")]

    def failing(compiler: GrammarCompiler, type: Type, *rest: Any) -> Grammar:
        if left:
            raise left.pop()
        return compiled(compiler, type, *rest)

    monkeypatch.setattr(GrammarCompiler, "_compiled", failing)
    with pytest.raises(EngineError, match="cannot be compiled: OSError: no process"):
        engine.run(typed, pattern="ab")
    assert engine.run(typed, pattern="ab")["x"] == "ab"


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("import sys; sys.exit(0)", True),
        ("import sys; sys.exit(3)", False),
        ("import os, signal; os.kill(os.getpid(), signal.SIGPROF)", False),
    ],
)
def test_a_trial(
    script: str, outcome: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text(script)
    monkeypatch.setattr(trial, "_SCRIPT", tmp_path / "script.py")
    assert trial.Trial().survives("") is outcome


def test_a_trial_that_fails_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.py").write_text("raise ImportError('no such module')")
    monkeypatch.setattr(trial, "_SCRIPT", tmp_path / "script.py")
    with pytest.raises(EngineError, match="the trial of a type failed: ImportError: no such mod"):
        trial.Trial().survives("")


def test_a_trial_that_is_stopped_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(trial, "_SCRIPT", tmp_path / "script.py")
    tried = trial.Trial()
    threading.Timer(0.3, tried.stop).start()
    with pytest.raises(EngineClosed):
        tried.survives("")
    with pytest.raises(EngineClosed):
        tried.survives("")

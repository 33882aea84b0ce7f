"""Identical deterministic work is done once: in a program, and across the programs of a batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import ramet
from ramet.runtime import Engine, Finished
from ramet.runtime.events import TextDelta
from ramet.runtime.works import Works
from tests.runtime.conftest import ToyEngine, toy_model

Program = ramet.Program[..., Any]


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Engine:
    return toy_engine()


def finished(outcomes: Sequence[Finished | Exception]) -> list[Finished]:
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Finished)]


def source(line: str, around: str = '    "ab{x}"\n') -> Program:
    return ramet.loads(f"program p(x: int):\n{around}    {line}\n")


GREEDY = "gen a(max_tokens=6, ignore_eos=true)"
SEEDED = "gen a(max_tokens=6, ignore_eos=true, temperature=1.0, seed=7)"
WORKS = [
    GREEDY,
    SEEDED,
    "gen a(n=3, max_tokens=4, temperature=1.0, seed=3)",
    "gen a(beams=3, max_tokens=4)",
    "gen a: int",
    'select a from ["yes", "no", "no way"]',
    'select a from ["yes", "no"] (by="unconditional", temperature=2.0, seed=1)',
    'score a of " and so on"',
]


@pytest.mark.parametrize("line", WORKS)
def test_a_batch_does_it_once(toy_engine: ToyEngine, line: str) -> None:
    once, batch = toy_engine(), toy_engine()
    program = source(line + '\n    "!"\n    gen b(max_tokens=2)')
    alone = once.run(program, x=1)
    items = finished(batch.run_batch(program, [{"x": 1}] * 4))

    for item in items:
        assert item.value == alone.value
        assert item.text == alone.text
        assert item.info("a") == alone.info("a") or "gen" in line
    assert toy_model(batch.core).tokens_run == toy_model(once.core).tokens_run
    batch.audit()
    assert batch.stats().sequences == 0


@pytest.mark.parametrize(
    "line", ["gen a(max_tokens=6, temperature=1.0)", 'select a from ["x", "y"] (temperature=9.0)']
)
def test_draws_that_depend_on_their_place_are_their_own(engine: Engine, line: str) -> None:
    values = {str(each.value) for each in finished(engine.run_batch(source(line), [{"x": 1}] * 12))}
    assert len(values) > 1


def test_other_contexts_and_other_settings_are_other_work(engine: Engine) -> None:
    program = source(GREEDY)
    one, two = finished(engine.run_batch(program, [{"x": 1}, {"x": 2}]))
    assert one.value != two.value
    both = ramet.loads(
        'program p():\n    "ab"\n    fork 2 as f:\n        gen a(max_tokens=3, ignore_eos=true)\n'
        "    fork 2 as g:\n        gen a(max_tokens=5, ignore_eos=true)\n"
        "    return {short: f.a, long: g.a}"
    )
    value = engine.run(both).value
    assert len(set(value["short"])) == len(set(value["long"])) == 1
    assert value["short"][0] != value["long"][0]


def test_branches_of_one_program_do_it_once(toy_engine: ToyEngine) -> None:
    def run(branches: int) -> int:
        engine = toy_engine()
        engine.run(
            ramet.loads(
                f'program p():\n    "ab"\n    fork {branches} as f:\n        {GREEDY}\n'
                '        "and"\n        gen b(max_tokens=3)'
            )
        )
        engine.audit()
        return toy_model(engine.core).tokens_run

    assert run(5) == run(1)


def test_runs_that_come_one_after_the_other_do_it_anew(engine: Engine) -> None:
    """No answer is kept behind a caller's back; blocks are found again all the same."""
    program = source(GREEDY)
    engine.run(program, x=1)
    before = toy_model(engine.core).tokens_run
    engine.run(program, x=1)
    assert toy_model(engine.core).tokens_run > before + 4


def test_when_the_one_who_does_it_stops_another_begins(engine: Engine) -> None:
    works = Works()
    runs = [engine.start(source(GREEDY), {"x": 1}, item=at, works=works) for at in range(3)]
    engine.round(runs)
    engine.round(runs)
    runs[0].abort()
    engine._drive(runs[1:])
    alone = engine.run(source(GREEDY), x=1)
    assert [run.result().value for run in runs[1:]] == [alone.value] * 2
    engine.audit()
    assert engine.stats().sequences == 0


def test_a_mistake_is_everybodys_own(engine: Engine) -> None:
    program = source('gen a: regex(r"[0-9]{9}") (max_tokens=2)')
    outcomes = engine.run_batch(program, [{"x": 1}] * 3)
    assert len({str(outcome) for outcome in outcomes}) == 1
    assert all(isinstance(outcome, ramet.RametError) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 3


def test_a_mistake_does_not_set_others_in_a_row(toy_engine: ToyEngine) -> None:
    """When the first has failed the others do the work together."""
    steps: list[int] = []
    for items in (2, 9):
        engine = toy_engine()
        engine.run_batch(source('gen a: regex(r"[0-9]{90}") (max_tokens=8)'), [{"x": 1}] * items)
        steps.append(engine.stats().steps)
    assert steps[0] == steps[1]


def test_whoever_takes_over_streams_it_too(engine: Engine) -> None:
    program = ramet.loads(f'program p():\n    "ab"\n    fork 2 as f:\n        {GREEDY}')
    stream = engine.stream(program)
    deltas = [event for event in stream if isinstance(event, TextDelta)]
    texts = {
        path: "".join(delta.text for delta in deltas if delta.path == path)
        for path in {delta.path for delta in deltas}
    }
    assert len(texts) == 2
    assert len(set(texts.values())) == 1


def test_what_is_remembered_grows_with_what_was_written(engine: Engine) -> None:
    works = Works()
    program = ramet.loads(
        'program p():\n    "x"\n    for i in range(50):\n'
        "        gen a(max_tokens=4, ignore_eos=true)"
    )
    run = engine.start(program, {}, works=works)
    engine._drive([run])
    tokens = sum(len(work.outcome.tokens) for work in works._works.values() if work.outcome)
    assert tokens == 50 * 4 + 1


def test_a_limit_holds_whoever_did_the_work(toy_engine: ToyEngine) -> None:
    """What a run comes to does not depend on its company."""
    for line, generated in ((GREEDY, 6), ("gen a(beams=3, max_tokens=4)", None)):
        program = source(line)
        engine = toy_engine()
        most = generated or engine.run(program, x=1).usage.generated
        for tokens, fits in ((most, True), (most - 1, False)):
            engine.config = replace(engine.config, limits=ramet.Limits(tokens=tokens))
            outcomes = engine.run_batch(program, [{"x": 1}] * 3)
            assert [isinstance(outcome, Finished) for outcome in outcomes] == [fits] * 3

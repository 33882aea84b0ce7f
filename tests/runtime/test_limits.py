"""Limits hold to the unit, the error names the limit, and every block comes back."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

import ramet
from ramet import Limits
from ramet.meter import Meter
from ramet.runtime import Engine
from ramet.runtime.result import Finished
from tests.runtime.conftest import ToyEngine


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Engine:
    return toy_engine()


def outcome(engine: Engine, program: ramet.Program[..., Any], **limits: float) -> object:
    """What a run with these limits comes to; the engine is empty afterwards."""
    settings = Limits(**limits)  # pyright: ignore[reportArgumentType]
    engine.config = replace(engine.config, limits=settings)
    (found,) = engine.run_batch(program, [{}])
    engine.audit()
    assert engine.stats().cache.held == 0
    assert engine.stats().sequences == 0
    return found


def loop(turns: int) -> str:
    return f'program p():\n    for i in range({turns}):\n        "x"\n    gen a(max_tokens=1)'


def comprehension(turns: int) -> str:
    return f'program p():\n    let a = [i for i in range({turns})]\n    "x{{len(a)}}"'


def forks(branches: int) -> str:
    return f'program p():\n    "x"\n    fork {branches} as f:\n        gen a(max_tokens=1)'


def calls(count: int) -> str:
    called = 'program q():\n    "x"\n    gen a(max_tokens=1)\n'
    return called + f"program p():\n    for i in range({count}):\n        call q() as a"


def kept(rounds: int) -> str:
    """Two branches are begun in every round, and one round's are never there with another's."""
    return (
        f'program p():\n    "x"\n    for i in range({rounds}):\n        fork 2 as f:\n'
        "            gen a(max_tokens=1)\n        keep f[0]"
    )


def samples(count: int) -> str:
    return (
        'program p():\n    "x"\n'
        f"    gen a(n=2, temperature=1.0, max_tokens={count // 2}, ignore_eos=true)"
    )


def beams(count: int) -> str:
    return f'program p():\n    "x"\n    gen a(beams=2, max_tokens={count // 2}, ignore_eos=true)'


@pytest.mark.parametrize(
    ("limit", "source", "amount"),
    [
        ("steps", loop, 5),
        ("steps", comprehension, 5),
        ("branches", forks, 4),
        ("branches", calls, 4),
        ("branches", lambda n: kept(n // 2), 6),
        ("live_branches", forks, 4),
        ("tokens", samples, 6),
        ("tokens", beams, 6),
    ],
)
@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_a_limit_holds_to_the_unit(
    engine: Engine, limit: str, source: Callable[[int], str], amount: int, spare: int
) -> None:
    found = outcome(engine, ramet.loads(source(amount)), **{limit: amount + spare})
    if spare >= 0:
        assert isinstance(found, Finished), found
        return
    assert isinstance(found, ramet.LimitError)
    assert found.limit == limit
    assert found.value == amount + spare
    assert f"more than {amount + spare}" in found.message


def test_what_keep_releases_is_live_no_more(engine: Engine) -> None:
    assert isinstance(outcome(engine, ramet.loads(kept(5)), live_branches=2), Finished)
    assert isinstance(outcome(engine, ramet.loads(kept(5)), live_branches=1), ramet.LimitError)


def test_what_was_generated_stays_readable(engine: Engine) -> None:
    program = ramet.loads(
        'program p():\n    "x"\n    gen a(max_tokens=3, ignore_eos=true)\n    " "\n'
        "    gen b(max_tokens=3, ignore_eos=true)"
    )
    error = outcome(engine, program, tokens=4)
    assert isinstance(error, ramet.LimitError)
    partial = error.partial
    assert isinstance(partial, Finished)
    assert partial["a"]
    assert partial.text.startswith("x" + str(partial["a"]))


def test_wall_time() -> None:
    now = [0.0]
    meter = Meter(Limits(seconds=5), clock=lambda: now[0])
    for moment in (4.0, 5.0):
        now[0] = moment
        meter.check_time()
    now[0] = 5.5
    with pytest.raises(ramet.LimitError, match="longer than 5 seconds") as caught:
        meter.check_time()
    assert (caught.value.limit, caught.value.value) == ("seconds", 5)


def test_a_run_out_of_time_ends(engine: Engine) -> None:
    program = ramet.loads('program p():\n    "x"\n    gen a(max_tokens=500, ignore_eos=true)')
    error = outcome(engine, program, seconds=0)
    assert isinstance(error, ramet.LimitError)
    assert error.limit == "seconds"


def test_an_expression_makes_no_more_than_it_may(engine: Engine) -> None:
    program = ramet.loads(
        'program p():\n    let a = "xxxxxxxxxx"\n    for i in range(3):\n        let a = a + a\n'
        '    "{len(a)}"'
    )
    assert isinstance(outcome(engine, program, made=200), Finished)
    assert isinstance(outcome(engine, program, made=100), ramet.LimitError)


def test_limits_of_a_source() -> None:
    source = 'program p():\n    "x"\n    "y"'
    for limit, amount in (("statements", 3), ("source_bytes", len(source))):
        ramet.loads(source, limits=Limits(**{limit: amount}))
        with pytest.raises(ramet.LimitError) as caught:
            ramet.loads(source, limits=Limits(**{limit: amount - 1}))
        assert caught.value.limit == limit
        assert caught.value.span is not None


def test_text_that_is_appended_counts(engine: Engine) -> None:
    """A generated one, too, which no expression made."""
    program = ramet.loads(
        'program p():\n    "x"\n    gen a(max_tokens=10, ignore_eos=true)\n'
        '    for i in range(20):\n        "{a}"'
    )
    assert isinstance(outcome(engine, program, made=10_000), Finished)
    error = outcome(engine, program, made=100)
    assert isinstance(error, ramet.LimitError)
    assert error.limit == "made"


def test_a_call_that_a_limit_refused_leaves_its_caller_as_it_was(engine: Engine) -> None:
    called = ramet.loads('program called():\n    "y"')

    @ramet.program
    def caller(s: ramet.State) -> object:
        s += "some text" + ramet.gen("a", max_tokens=3, ignore_eos=True)
        str(s["a"])
        with suppress(ramet.LimitError):
            called.call(s)
        str(s.score("b", "z"))
        str(s.score("c", "z"))
        return s["c"]

    alone = engine.run(caller)
    engine.config = replace(engine.config, limits=Limits(branches=0))
    assert engine.run(caller).value == alone.value

"""What is over goes at once, and not when the garbage collector comes by."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

import ramet
from ramet.runtime import AsyncEngine, Engine
from ramet.runtime.run import Run
from tests.runtime.conftest import ToyEngine
from tests.runtime.running import drive, tips

TWO = """
program inner(a: str):
    "{a} so "
    gen b(max_tokens=3, ignore_eos=true)
    return b

program outer(a: str):
    "Once "
    call inner(a) as c
    select d from ["x", "yy"]
    return c
"""


@contextmanager
def uncollected() -> Generator[None, None, None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "program", [lambda: tips, lambda: ramet.loads(TWO)], ids=["python", "text"]
)
def test_a_run_goes_with_the_last_who_has_it(
    toy_engine: ToyEngine, program: Callable[[], Any]
) -> None:
    engine = toy_engine()
    made = program()
    arguments = {"a": "one"} if made is not tips else {}
    with uncollected():
        one = engine.start(made, arguments, on_event=lambda event: None)
        drive(engine, one)
        assert one.result().usage.generated
        gone = weakref.ref(one)
        del one
        assert gone() is None


def test_a_program_in_text_goes_with_the_last_who_has_it() -> None:
    with uncollected():
        program = ramet.loads(TWO)
        gone = weakref.ref(program)
        del program
        assert gone() is None


def test_a_run_that_others_wait_for_goes_too(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[weakref.ref[Run]] = []
    start = Engine.start

    def noted(*args: Any, **kwargs: Any) -> Run:
        run = start(*args, **kwargs)
        runs.append(weakref.ref(run))
        return run

    monkeypatch.setattr(Engine, "start", noted)

    async def main() -> None:
        async with AsyncEngine.of(toy_engine()) as engine:
            await engine.run(ramet.loads(TWO), a="one")
            async for _ in engine.stream(ramet.loads(TWO), a="two"):
                pass
            await engine.stats()

    with uncollected():
        asyncio.run(main())
        assert len(runs) == 2
        assert [run() for run in runs] == [None, None]

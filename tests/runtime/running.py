"""Runs of programs on the toy engine, audited after every step."""

from typing import Any

import ramet
from ramet.runtime import Engine, Finished
from ramet.runtime.batch import Batch
from ramet.runtime.run import Run
from tests.runtime.conftest import all_back


def gen(name: str, count: int = 4, **fields: Any) -> Any:
    return ramet.gen(name, max_tokens=count, ignore_eos=True, **fields)


@ramet.program
def tips(s: ramet.State, count: int = 3) -> object:
    s += "Give tips. "
    branches = s.fork(count)
    for index, branch in enumerate(branches):
        branch += f"Tip {index}:"
        branch += gen("tip", 5)
    s += "All: " + branches["tip"].join("; ") + "."
    s += gen("summary", 6)
    return {"tips": branches["tip"], "summary": s["summary"]}


@ramet.program
def outline(s: ramet.State, topic: str) -> object:
    s += "Outline " + topic + ":" + gen("points", 8)
    return s["points"]


def run(engine: Engine, program: Any, **arguments: Any) -> Finished:
    """Run with an audit after every step; a run that waits for nothing fails."""
    one = engine.start(program, arguments)
    drive(engine, one)
    assert all_back(engine.core)
    return one.result()


def drive(engine: Engine, one: Run) -> None:
    idle = 0
    while not one.done:
        before = engine.stats().steps
        engine.round([one])
        engine.audit()
        idle = 0 if engine.core.busy or engine.stats().steps > before else idle + 1
        assert idle < 3, "the run waits for something that never comes"


def batches(engine: Engine) -> list[Batch]:
    """Every batch that is run from now on."""
    seen: list[Batch] = []
    inner = engine.core.runner.run

    def watched(batch: Batch) -> Any:
        seen.append(batch)
        return inner(batch)

    engine.core.runner.run = watched  # type: ignore[method-assign]
    return seen

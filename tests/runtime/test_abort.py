"""Cancelling in every phase: what was held comes back, and nobody else notices."""

from collections.abc import Callable
from typing import Any

import pytest

import ramet
from ramet.params import SamplingParams
from ramet.runtime import Engine, Event, Stream, TextDelta, ValueBound
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import Aborted
from ramet.runtime.run import Run
from ramet.runtime.sequence import Generation, Task
from tests.runtime.conftest import ToyCore, ToyEngine, all_back, drive, toy_text, toy_words


class Told(list[Task]):
    """Who was told that it ended."""

    def __call__(self, task: Task) -> None:
        self.append(task)


def start(
    core: EngineCore,
    prompt: list[int],
    told: Told,
    count: int = 8,
    on_text: Callable[[str], None] | None = None,
) -> Generation:
    return core.generate(
        core.open(prompt),
        SamplingParams(max_tokens=count, ignore_eos=True),
        key=0,
        on_done=told,
        on_text=on_text,
    )


def finish(core: EngineCore, told: Told, *others: Generation) -> None:
    """The others are right, everybody was told once, and everything comes back."""
    drive(core)
    for other in others:
        assert other.error is None
        prompt = other.sequence.tokens[: other.prompt]
        assert other.drawn == toy_text(prompt, other.limit)
    assert len(told) == len(set(told))
    for sequence in list(core._sequences):
        core.close(sequence)
    assert all_back(core)


# -- tasks


@pytest.mark.parametrize("steps", range(7))
@pytest.mark.parametrize("close", [False, True])
def test_a_task_at_any_moment(toy_core: ToyCore, steps: int, close: bool) -> None:
    """Waiting, in the middle of its prompt (three steps), drawing."""
    core, told = toy_core(step_tokens=16, block_size=4), Told()
    first = start(core, [1, 2, 3], told)
    task = start(core, list(range(30)), told)
    last = start(core, [4, 5], told)
    for _ in range(steps):
        core.step()

    if close:
        core.close(task.sequence)
    else:
        core.abort(task)
        core.abort(task)
    core.audit()

    assert isinstance(task.error, Aborted)
    assert task.sequence.idle
    assert task.sequence.tokens == list(range(30)) + toy_text(list(range(30)), len(task.drawn))
    assert task not in told, "it is told in the next step, outside of the caller's own work"
    core.step()
    assert told.count(task) == 1
    finish(core, told, first, last)


def test_one_that_waits_for_anothers_blocks_and_that_other(toy_core: ToyCore) -> None:
    core, told = toy_core(prefill_chunk=16), Told()
    prompt = list(range(100))
    leader, follower, third = (start(core, [*prompt, index], told) for index in range(3))
    core.step()
    assert follower in core.scheduler.waiting

    core.abort(follower)
    core.audit()
    core.step()
    core.abort(leader)
    core.audit()

    finish(core, told, third)
    assert told == [follower, leader, third]
    assert third.usage.prompt_reused == 32


def test_an_aborted_generation_can_be_gone_on_with(toy_core: ToyCore) -> None:
    core, told = toy_core(), Told()
    task = start(core, [1, 2, 3], told, count=10)
    for _ in range(4):
        core.step()
    core.abort(task)
    assert len(task.drawn) == 4

    again = core.generate(
        task.sequence, SamplingParams(max_tokens=6, ignore_eos=True), key=0, on_done=told
    )
    drive(core)
    assert task.drawn + again.drawn == toy_text([1, 2, 3], 10)


def test_a_fork_while_its_siblings_run(toy_core: ToyCore) -> None:
    core, told = toy_core(block_size=4), Told()
    parent = core.open(list(range(10)))
    core.score(parent, 10, on_done=told)
    drive(core)
    tasks: list[Generation] = []
    for index in range(4):
        child = core.fork(parent)
        child.tokens.append(index)
        params = SamplingParams(max_tokens=6, ignore_eos=True)
        tasks.append(core.generate(child, params, key=0, on_done=told))
    core.close(parent)
    core.step()
    core.step()

    core.close(tasks[1].sequence)
    core.abort(tasks[3])
    core.audit()

    finish(core, told, tasks[0], tasks[2])


def test_a_score_in_its_middle(toy_core: ToyCore) -> None:
    core, told = toy_core(prefill_chunk=4), Told()
    score = core.score(core.open(list(range(20))), 2, on_done=told)
    core.step()
    core.step()
    assert 0 < len(score.logprobs) < 18
    core.abort(score)
    core.audit()
    again = core.score(score.sequence, 2, on_done=told)
    drive(core)
    assert len(again.logprobs) == 18
    finish(core, told)


def test_a_callback_that_ends_others_of_its_step(toy_core: ToyCore) -> None:
    """And itself: those behind it in the batch draw nothing more."""
    core, told = toy_core(), Told()
    tasks: list[Generation] = []

    def end(*at: int) -> Callable[[str], None]:
        def on_text(text: str) -> None:
            for index in at:
                core.abort(tasks[index])
                core.audit()

        return on_text

    tasks.append(start(core, [1], told))
    tasks.append(start(core, [2], told, on_text=end(0, 3)))
    tasks.append(start(core, [3], told, on_text=end(2)))
    tasks.append(start(core, [4], told))
    tasks.append(start(core, [5], told))
    drive(core)

    aborted = [isinstance(task.error, Aborted) for task in tasks]
    assert aborted == [True, False, True, True, False]
    assert [len(task.drawn) for task in tasks] == [1, 8, 1, 0, 8]
    for prompt, task in zip([[1], [2], [3], [4], [5]], tasks, strict=True):
        assert task.drawn == toy_text(prompt, len(task.drawn))
    finish(core, told, tasks[1], tasks[4])


def test_a_callback_that_closes_its_own_sequence(toy_core: ToyCore) -> None:
    core, told = toy_core(), Told()
    tasks: list[Generation] = []
    other = start(core, [9], told)
    tasks.append(start(core, [1, 2], told, on_text=lambda text: core.close(tasks[0].sequence)))
    drive(core)
    assert isinstance(tasks[0].error, Aborted)
    assert told.count(tasks[0]) == 1
    finish(core, told, other)


def test_whoever_is_told_may_end_others_that_ended_too(toy_core: ToyCore) -> None:
    core = toy_core()
    told: list[Task] = []

    def on_done(task: Task) -> None:
        told.append(task)
        for each in tasks:
            core.abort(each)
            core.close(each.sequence)

    params = SamplingParams(max_tokens=2, ignore_eos=True)
    tasks = [core.generate(core.open([i]), params, key=0, on_done=on_done) for i in range(3)]
    drive(core)
    assert told == tasks
    assert [task.error for task in tasks] == [None] * 3
    assert all_back(core)


def test_a_raising_listener_keeps_nobody_from_being_told(toy_core: ToyCore) -> None:
    core, told = toy_core(), Told()

    def failing(task: Task) -> None:
        raise ValueError("a listener failed")

    params = SamplingParams(max_tokens=1, ignore_eos=True)
    core.generate(core.open([1]), params, key=0, on_done=failing)
    other = start(core, [2], told, count=1)
    with pytest.raises(ValueError, match="a listener failed"):
        core.step()
    core.audit()
    assert core.busy
    finish(core, told, other)
    assert told == [other]


# -- an interrupted step


class Interrupting:
    """Raises KeyboardInterrupt once, at the n-th call of something."""

    def __init__(self, call: Callable[..., Any], at: int, after: bool = False) -> None:
        self.call, self.left, self.after = call, at, after

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        result = self.call(*args, **kwargs) if self.after or self.left != -1 else None
        if self.left == -1:
            raise KeyboardInterrupt
        return result


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("where", ["forward", "sample", "schedule", "reserve", "commit"])
def test_an_interrupt_inside_a_step_loses_nothing(
    toy_core: ToyCore, where: str, at: int, after: bool
) -> None:
    """What was reserved is given back, and the step is run again."""
    core, told = toy_core(block_size=4, step_tokens=10), Told()
    tasks = [start(core, list(range(index, index + 9)), told) for index in range(3)]
    score = core.score(core.open(list(range(50, 70))), 3, on_done=told)
    owner, name = {
        "forward": (core.runner, "run"),
        "sample": (core._outputs._sampler, "sample"),
        "schedule": (core.scheduler, "_admit"),
        "reserve": (core.scheduler, "_run"),
        "commit": (core.scheduler, "commit"),
    }[where]
    setattr(owner, name, Interrupting(getattr(owner, name), at, after))

    with pytest.raises(KeyboardInterrupt):
        drive(core)
    core.audit()
    assert not told or at

    finish(core, told, *tasks)
    assert len(score.logprobs) == 17
    assert len(told) == 4


def test_an_interrupt_in_a_callback_ends_that_request_alone(toy_core: ToyCore) -> None:
    core, told = toy_core(), Told()

    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    before = start(core, [1], told)
    task = start(core, [2], told, on_text=interrupt)
    after = start(core, [3], told)
    with pytest.raises(KeyboardInterrupt):
        drive(core)
    core.audit()
    assert isinstance(task.error, Aborted)
    finish(core, told, before, after)


# -- programs


@ramet.program
def deep(s: ramet.State) -> object:
    """Every kind of work, one after the other."""
    s += "Once upon a time there was a"
    s += ramet.gen("start", max_tokens=6, ignore_eos=True)
    branches = s.fork(3)
    for index, branch in enumerate(branches):
        branch += f" {index}:"
        branch += ramet.gen("more", max_tokens=4 + index, ignore_eos=True)
    s += ramet.select("which", [" one", " other", " third"], by="unconditional")
    s += ramet.gen("many", n=3, temperature=1.0, max_tokens=4)
    if len(branches["more"][2]) >= 0:
        s += "end"
    s += ramet.gen("last", max_tokens=4, ignore_eos=True)
    return s["last"]


@ramet.program
def plain(s: ramet.State, text: str) -> object:
    s += text
    s += ramet.gen("x", max_tokens=20, ignore_eos=True)
    return s["x"]


def moments(engine: Engine) -> int:
    run = engine.start(deep, {})
    rounds = 0
    while not run.done:
        engine.round([run])
        rounds += 1
    return rounds


def test_a_run_at_any_moment(toy_engine: ToyEngine) -> None:
    """Inside a fork, between the stages of a select, while the body waits."""
    engine = toy_engine(block_size=4, step_tokens=9)
    wanted = toy_words(engine.tokenizer, "beside", 20)
    total = moments(engine)
    assert total > 15
    for moment in range(total):
        engine.core.pool.clear()
        beside = engine.start(plain, {"text": "beside"})
        run = engine.start(deep, {})
        for _ in range(moment):
            engine.round([run, beside])
            engine.audit()
        assert not run.done

        run.abort()
        run.abort()
        engine.audit()

        assert run.done
        with pytest.raises(Aborted, match="the run of 'deep' was cancelled"):
            run.result()
        assert run.partial().text.startswith("Once" if moment else "")
        while not beside.done:
            engine.round([beside])
            engine.audit()
        assert beside.result().value == wanted
        assert all_back(engine.core)


def test_the_body_is_unwound(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    left: list[str] = []

    @ramet.program
    def careful(s: ramet.State) -> None:
        try:
            with s.user():
                s += "text"
                s += ramet.gen("x", max_tokens=4)
                assert s["x"] is not None
                len(s["x"])
                left.append("went on")
        finally:
            left.append("unwound")
            raise ValueError("and this is nobody's business")

    run = engine.start(careful, {})
    engine.round([run])
    run.abort()
    assert left == ["unwound"]
    assert isinstance(run.error, Aborted)
    assert all_back(engine.core)


def test_a_body_that_will_not_go(toy_engine: ToyEngine) -> None:
    """It reads on while it is unwound: it is left where it is."""
    engine = toy_engine()

    @ramet.program
    def stubborn(s: ramet.State) -> None:
        s += "text"
        s += ramet.gen("x", max_tokens=4)
        try:
            len(s["x"])
        finally:
            len(s["x"])

    run = engine.start(stubborn, {})
    engine.round([run])
    run.abort()
    assert run.done
    assert all_back(engine.core)
    assert engine.run(plain, text="after").value == toy_words(engine.tokenizer, "after", 20)


@pytest.mark.parametrize("kind", [TextDelta, ValueBound])
@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_run_from_its_own_events(toy_engine: ToyEngine, kind: type[Event], at: int) -> None:
    engine = toy_engine(block_size=4)
    runs: list[Run] = []
    seen: list[Event] = []

    def on_event(event: Event) -> None:
        seen.append(event)
        if sum(isinstance(each, kind) for each in seen) == at + 1:
            runs[0].abort()

    runs.append(engine.start(deep, {}, on_event=on_event))
    beside = engine.start(plain, {"text": "beside"})
    while not all(run.done for run in (*runs, beside)):
        engine.round([*runs, beside])
        engine.audit()

    assert isinstance(runs[0].error, Aborted)
    assert beside.result().value == toy_words(engine.tokenizer, "beside", 20)
    assert all_back(engine.core)


def test_one_run_from_the_events_of_another(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    victim = engine.start(deep, {})
    actor = engine.start(plain, {"text": "act"}, on_event=lambda event: victim.abort())
    while not actor.done:
        engine.round([victim, actor])
        engine.audit()
    assert isinstance(victim.error, Aborted)
    assert actor.result().value == toy_words(engine.tokenizer, "act", 20)
    assert all_back(engine.core)


def test_a_stream_that_is_closed_early(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    other = engine.stream(plain, text="other")
    next(other)
    with engine.stream(deep) as stream:
        next(stream)
        next(stream)
        assert engine.stats().cache.held
    stream.close()
    with pytest.raises(Aborted):
        stream.result()
    assert other.result().value == toy_words(engine.tokenizer, "other", 20)
    assert all_back(engine.core)


def test_an_interrupt_ends_the_call_and_not_the_engine(toy_engine: ToyEngine) -> None:
    """A stream that somebody else reads beside it goes on exactly."""
    engine = toy_engine()
    beside: Stream = engine.stream(plain, text="beside")
    next(beside)
    for at in range(12):
        run, core = engine.core.runner.run, engine.core
        core.runner.run = Interrupting(run, at)  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            engine.run(deep)
        core.runner.run = run  # type: ignore[method-assign]
        engine.audit()
        assert len({*core.scheduler.waiting, *core.scheduler.running}) <= 1
    assert beside.result().value == toy_words(engine.tokenizer, "beside", 20)
    assert all_back(engine.core)


def test_an_interrupt_in_the_body(toy_engine: ToyEngine) -> None:
    engine = toy_engine()

    @ramet.program
    def interrupted(s: ramet.State) -> None:
        s += "text"
        s += ramet.gen("x", max_tokens=4)
        len(s["x"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run_batch(interrupted, [{}, {}])
    assert all_back(engine.core)
    assert engine.run(plain, text="after").value == toy_words(engine.tokenizer, "after", 20)

"""What fails takes down its own step or its own request, and leaves nothing wrong behind."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ramet
from ramet.params import SamplingParams
from ramet.runtime import Event, TextDelta, ValueBound
from ramet.runtime.batch import Batch
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import GenerationError, SamplingError, StepError
from ramet.runtime.sequence import Generation, Scoring, Task
from tests.runtime.conftest import (
    ToyCore,
    ToyEngine,
    all_back,
    drive,
    toy_model,
    toy_text,
)

PROMPT = list(range(40))


def ignored(task: Task) -> None:
    """Nobody waits for it."""


def start(
    core: EngineCore,
    prompt: list[int],
    count: int = 6,
    on_text: Callable[[str], None] | None = None,
) -> Generation:
    return core.generate(
        core.open(prompt),
        SamplingParams(max_tokens=count, ignore_eos=True),
        key=0,
        on_done=ignored,
        on_text=on_text,
    )


def close_all(core: EngineCore) -> None:
    for sequence in list(core._sequences):
        core.close(sequence)
    assert all_back(core)


class Faulty:
    """A runner's `run` that spoils the result, or raises after the model has written."""

    def __init__(self, core: EngineCore) -> None:
        self.run = core.runner.run
        core.runner.run = self  # type: ignore[assignment]
        self.raises: BaseException | None = None
        self.spoil: dict[Task, float] = {}  # whose logits become what

    def __call__(self, batch: Batch) -> Tensor:
        logits = self.run(batch)
        owners = [entry.task for entry in batch.entries for _ in range(entry.outputs)]
        for row, task in enumerate(owners):
            if task in self.spoil:
                logits[row] = self.spoil[task]
        if self.raises is not None:
            raise self.raises
        return logits


# -- the forward pass


@pytest.mark.parametrize("at", range(6))
def test_a_forward_that_raises_fails_its_step_and_nobody_else(toy_core: ToyCore, at: int) -> None:
    """In the step: all that had an entry. Not in it: those that waited."""
    core = toy_core(block_size=4, step_tokens=24, max_sequences=2)
    toy_model(core).fail_at = {at}
    prompts = [PROMPT, [1, 2, 3], [4, 5], [6]]
    tasks = [start(core, prompt) for prompt in prompts]

    drive(core)

    failed = [task for task in tasks if task.error is not None]
    assert 1 <= len(failed) <= 2
    for task in failed:
        assert isinstance(task.error, StepError)
        assert str(task.error) == "the forward pass raised RuntimeError: the device caught fire"
        assert isinstance(task.error.__cause__, RuntimeError)
    for prompt, task in zip(prompts, tasks, strict=True):
        assert task.drawn == toy_text(prompt, len(task.drawn))
        assert task in failed or len(task.drawn) == 6
    stats = core.stats()
    assert stats.failed_steps == 1
    assert stats.tokens <= toy_model(core).tokens_run
    close_all(core)


@pytest.mark.parametrize("error", [RuntimeError("fire"), MemoryError("no room"), ValueError("?")])
def test_what_a_failed_step_wrote_is_never_found(toy_core: ToyCore, error: Exception) -> None:
    """The keys and values are in the blocks, wrong perhaps; the next request computes them anew."""
    core = toy_core(block_size=4)
    faulty = Faulty(core)
    faulty.raises = error
    task = start(core, PROMPT)
    drive(core)
    assert isinstance(task.error, StepError)
    assert type(error).__name__ in str(task.error)
    assert core.pool.stats().published == 0
    core.runner.backend.cache.data.fill_(99.0)
    core.close(task.sequence)

    faulty.raises = None
    again = start(core, PROMPT)
    drive(core)

    assert again.usage.prompt_reused == 0
    assert again.drawn == toy_text(PROMPT, 6)
    close_all(core)


def test_a_failed_sequence_can_be_tried_again(toy_core: ToyCore) -> None:
    core = toy_core(block_size=4)
    toy_model(core).fail_at = {3}
    task = start(core, PROMPT)
    drive(core)
    assert task.error is not None
    assert len(task.drawn) == 3

    again = core.generate(
        task.sequence, SamplingParams(max_tokens=3, ignore_eos=True), key=0, on_done=ignored
    )
    drive(core)

    assert task.drawn + again.drawn == toy_text(PROMPT, 6)
    assert again.usage.prompt_computed == 1


def test_a_copy_that_never_happened_is_called_off(toy_core: ToyCore) -> None:
    """The step that was to copy a shared tail fails: the tail is shared again."""
    core = toy_core(block_size=4)
    parent = core.open(PROMPT[:10])
    core.score(parent, 10, on_done=ignored)
    drive(core)
    forks = [core.fork(parent) for _ in range(3)]
    params = SamplingParams(max_tokens=2, ignore_eos=True)
    for index, fork in enumerate(forks):
        fork.tokens.append(index)
    toy_model(core).fail_at = {toy_model(core).forwards}

    failed = [core.generate(fork, params, key=0, on_done=ignored) for fork in forks]
    drive(core)
    assert [type(task.error) for task in failed] == [StepError] * 3
    assert core.stats().cache.copies == 0

    again = [core.generate(fork, params, key=0, on_done=ignored) for fork in forks]
    drive(core)
    for index, task in enumerate(again):
        assert task.drawn == toy_text([*PROMPT[:10], index], 2)
    assert core.stats().cache.copies == 3
    close_all(core)


def test_every_forward_failing_ends_everything(toy_core: ToyCore) -> None:
    core = toy_core(step_tokens=8)
    toy_model(core).fail_at = set(range(1_000))
    tasks = [start(core, [index, 1]) for index in range(10)]
    drive(core)
    assert all(isinstance(task.error, StepError) for task in tasks)
    close_all(core)


# -- one row


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_unsound_logits_fail_their_row(toy_core: ToyCore, value: float) -> None:
    core = toy_core()
    faulty = Faulty(core)
    tasks = [start(core, [index, 2]) for index in range(3)]
    core.step()
    faulty.spoil = {tasks[1]: value}
    drive(core)

    assert isinstance(tasks[1].error, SamplingError)
    assert "NaN or infinity" in str(tasks[1].error)
    assert tasks[1].drawn == toy_text([1, 2], 1)
    for index in (0, 2):
        assert tasks[index].drawn == toy_text([index, 2], 6)
    close_all(core)


def test_unsound_logits_fail_a_score(toy_core: ToyCore) -> None:
    core = toy_core(prefill_chunk=16)
    faulty = Faulty(core)
    spoilt: list[Scoring] = [
        core.score(core.open(PROMPT), start, on_done=ignored) for start in (1, 39)
    ]
    other = core.score(core.open([1, 2, 3, 4]), 2, on_done=ignored)
    faulty.spoil = {spoilt[0]: float("nan"), spoilt[1]: float("nan")}
    drive(core)

    for score in spoilt:
        assert isinstance(score.error, SamplingError)
        assert "NaN" in str(score.error)
    assert other.error is None
    assert len(other.logprobs) == 2
    close_all(core)


def test_nothing_left_to_draw_fails_its_row(toy_core: ToyCore) -> None:
    core = toy_core()
    params = SamplingParams(allowed_tokens=[256], min_tokens=2)
    task = core.generate(core.open([1, 2]), params, key=0, on_done=ignored)
    other = start(core, [3, 4])
    drive(core)
    assert isinstance(task.error, SamplingError)
    assert "ruled out" in str(task.error)
    assert other.drawn == toy_text([3, 4], 6)


def test_a_sampler_that_raises_fails_those_that_were_to_draw(toy_core: ToyCore) -> None:
    """Scores of the same step are done by then, and prompts go on."""
    core = toy_core(prefill_chunk=16)
    tasks = [start(core, [index, 2]) for index in range(2)]
    long = start(core, PROMPT)
    score = core.score(core.open([5, 6, 7]), 1, on_done=ignored)
    sample = core._outputs._sampler.sample

    def failing(*args: object) -> object:
        core._outputs._sampler.sample = sample  # type: ignore[method-assign]
        raise MemoryError("no room for probabilities")

    core._outputs._sampler.sample = failing  # type: ignore[method-assign, assignment]
    drive(core)

    for task in tasks:
        assert isinstance(task.error, GenerationError)
        assert str(task.error) == "MemoryError: no room for probabilities"
        assert isinstance(task.error.__cause__, MemoryError)
    assert long.drawn == toy_text(PROMPT, 6)
    assert len(score.logprobs) == 2
    close_all(core)


@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_callback_that_raises_fails_its_request(toy_core: ToyCore, at: int) -> None:
    core = toy_core()
    seen: list[str] = []

    def on_text(text: str) -> None:
        seen.append(text)
        if len(seen) == at + 1:
            raise ZeroDivisionError("by nothing")

    others = [start(core, [1, 2]), start(core, [3, 4])]
    # Letters alone, so that each token gives text.
    params = SamplingParams(max_tokens=6, allowed_tokens=list(range(40, 60)))
    task = core.generate(core.open(PROMPT), params, key=0, on_done=ignored, on_text=on_text)
    drive(core)

    assert isinstance(task.error, GenerationError)
    assert str(task.error) == "ZeroDivisionError: by nothing"
    assert isinstance(task.error.__cause__, ZeroDivisionError)
    assert len(task.drawn) == at + 1
    assert [other.drawn for other in others] == [toy_text([1, 2], 6), toy_text([3, 4], 6)]
    close_all(core)


def test_a_stop_regex_that_takes_too_long_fails_its_request(toy_core: ToyCore) -> None:
    core = toy_core()
    letters = [40]
    params = SamplingParams(
        max_tokens=60, allowed_tokens=letters, stop_regex=r"(?:I|I|II)+(?:I|I|II)+$(?<!I)x"
    )
    slow = core.generate(core.open([1]), params, key=0, on_done=ignored)
    other = start(core, [3, 4])
    drive(core)
    assert other.drawn == toy_text([3, 4], 6)
    assert "takes too long" in str(slow.error)


# -- programs


@ramet.program
def story(s: ramet.State, text: str) -> object:
    s += text
    s += ramet.gen("x", max_tokens=6, ignore_eos=True)
    s += " and "
    s += ramet.gen("y", max_tokens=6, ignore_eos=True)
    return s["x"], s["y"]


@pytest.mark.parametrize("at", range(12))
def test_a_failed_step_ends_the_runs_that_were_in_it(toy_engine: ToyEngine, at: int) -> None:
    """Two at once; the third begins after the failure and is right."""
    engine = toy_engine(block_size=4)
    reference = toy_engine()
    wanted = [reference.run(story, text=text).value for text in ("one", "two", "three")]
    toy_model(engine.core).fail_at = {at}

    outcomes = engine.run_batch(
        story, [{"text": text} for text in ("one", "two", "three")], concurrency=2
    )
    engine.audit()

    failed = [isinstance(outcome, StepError) for outcome in outcomes]
    assert 1 <= sum(failed) <= 2
    for value, outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, Exception):
            assert isinstance(outcome.__cause__, RuntimeError)
            (note,) = outcome.__notes__
            assert note.startswith(f"in the program at {__file__}:")
        else:
            assert outcome.value == value
    toy_model(engine.core).fail_at = set()
    for text, value in zip(("one", "two", "three"), wanted, strict=True):
        assert engine.run(story, text=text).value == value
    assert all_back(engine.core)


def test_a_listener_that_raises_ends_its_run(toy_engine: ToyEngine) -> None:
    engine = toy_engine()

    def listener(event: Event) -> None:
        if isinstance(event, TextDelta):
            raise OSError("nobody listens")

    run = engine.start(story, {"text": "one"}, on_event=listener)
    other = engine.start(story, {"text": "two"})
    while not (run.done and other.done):
        engine.round([run, other])
        engine.audit()

    error = run.error
    assert isinstance(error, GenerationError)
    assert str(error) == "OSError: nobody listens"
    assert other.result().value == toy_engine().run(story, text="two").value
    assert all_back(engine.core)


def test_a_listener_that_raises_over_a_value_ends_its_run(toy_engine: ToyEngine) -> None:
    engine = toy_engine()

    def listener(event: Event) -> None:
        if isinstance(event, ValueBound):
            raise OSError("nobody listens")

    run = engine.start(story, {"text": "one"}, on_event=listener)
    while not run.done:
        engine.round([run])
        engine.audit()
    assert isinstance(run.error, OSError)
    assert all_back(engine.core)


def test_a_failing_branch_ends_the_whole_run(toy_engine: ToyEngine) -> None:
    engine = toy_engine(context=64)

    @ramet.program
    def lopsided(s: ramet.State) -> object:
        s += "text"
        branches = s.fork(3)
        for index, branch in enumerate(branches):
            branch += "x" * 40 * index
            branch += ramet.gen("b", max_tokens=4)
        s += ramet.gen("own", max_tokens=30)
        return branches["b"]

    with pytest.raises(ramet.RametError, match="84 tokens"):
        engine.run(lopsided)
    assert all_back(engine.core)


def test_the_logits_of_a_failed_row_are_not_the_others(toy_core: ToyCore) -> None:
    """NaN in one row leaves the log-probabilities of the others as they are."""
    core = toy_core()
    faulty = Faulty(core)
    params = SamplingParams(max_tokens=3, logprobs=1, ignore_eos=True)
    tasks = [
        core.generate(core.open([index]), params, key=0, on_done=ignored) for index in range(3)
    ]
    faulty.spoil = {tasks[0]: float("nan")}
    drive(core)
    assert isinstance(tasks[0].error, SamplingError)
    for task in tasks[1:]:
        assert all(draw.logprob is not None and draw.logprob < 0 for draw in task.draws)
        assert torch.tensor([draw.logprob for draw in task.draws]).isfinite().all()

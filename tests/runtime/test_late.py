"""Texts that are told while the next step runs: on a device beside the host, and here by force.

Nothing that anybody sees may depend on it but the order of things.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from ramet.errors import RametError
from ramet.params import SamplingParams
from ramet.runtime import core as core_module
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import Aborted, GenerationError, StepError
from ramet.runtime.outputs import Outputs
from ramet.runtime.sequence import Generation, Task
from tests.runtime.conftest import ToyCore, all_back, drive, toy_model, toy_text

Making = Callable[..., EngineCore]


@contextmanager
def telling(late: bool) -> Iterator[None]:
    """Cores that are made inside tell texts late, or at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core_module, "Outputs", lambda end, **_: Outputs(end, late=late))
        yield


@pytest.fixture
def late_core(toy_core: ToyCore) -> Making:
    def make(**settings: object) -> EngineCore:
        with telling(late=True):
            return toy_core(**settings)

    return make


def nobody(task: Task) -> None:
    """Nobody waits for it."""


@dataclass(frozen=True)
class Outcome:
    """All that can be seen of a text."""

    told: str
    tokens: list[int]
    drawn: list[int]
    logprobs: list[float | None]
    reason: str
    generated: int
    leftover: str
    error: type[RametError] | None


def outcomes(core: EngineCore, prompts: list[list[int]], asked: list[SamplingParams]) -> object:
    told = [list[str]() for _ in prompts]
    tasks = [
        core.generate(core.open(prompt), params, key=at, on_done=nobody, on_text=told[at].append)
        for at, (prompt, params) in enumerate(zip(prompts, asked, strict=True))
    ]
    drive(core)
    found = [
        Outcome(
            "".join(texts),
            task.sequence.tokens,
            task.drawn,
            [draw.logprob for draw in task.draws],
            task.finish_reason,
            task.usage.generated,
            task.text.leftover,
            None if task.error is None else type(task.error),
        )
        for task, texts in zip(tasks, told, strict=True)
    ]
    for task in tasks:
        core.close(task.sequence)
    assert all_back(core)
    return found


def stop_of(rng: random.Random, prompt: list[int], core: EngineCore) -> str:
    """A few characters of what the toy model goes on with."""
    text = core.tokenizer.decode(toy_text(prompt, 12))
    at = rng.randrange(max(1, len(text) - 2))
    return text[at : at + rng.randrange(1, 4)] or "x"


@pytest.mark.parametrize("seed", range(40))
def test_nothing_depends_on_it(toy_core: ToyCore, seed: int) -> None:
    rng = random.Random(seed)
    settings = {
        "num_blocks": rng.choice([14, 20, 256]),
        "block_size": rng.choice([1, 4, 16]),
        "step_tokens": rng.choice([8, 64]),
        "max_sequences": rng.choice([3, 8]),
    }
    settings["num_blocks"] = max(settings["num_blocks"], 64 // settings["block_size"])
    prompts = [rng.choices(range(250), k=rng.randrange(1, 20)) for _ in range(6)]
    prompts.append(prompts[0] + prompts[1])
    asked: list[SamplingParams] = []
    with telling(late=False):
        core = toy_core(**settings)
    for prompt in prompts:
        greedy = rng.random() < 0.6
        asked.append(
            SamplingParams(
                max_tokens=rng.randrange(1, 20),
                temperature=0.0 if greedy else 1.0,
                stop=[stop_of(rng, prompt, core)] if rng.random() < 0.6 else [],
                stop_tokens=rng.sample(range(250), k=rng.choice([0, 0, 20])),
                min_tokens=rng.choice([0, 0, 1]),
                logprobs=rng.choice([None, 2]),
                ignore_eos=rng.random() < 0.5,
                repetition_penalty=rng.choice([1.0, 1.0, 1.3]),
            )
        )
    expected = outcomes(core, prompts, asked)
    with telling(late=True):
        core = toy_core(**settings)
    assert outcomes(core, prompts, asked) == expected


def test_a_text_is_told_while_the_next_step_runs(late_core: Making) -> None:
    core, seen = late_core(), list[str]()
    run = core.runner.run

    def watched(batch: object) -> object:
        seen.append("step")
        return run(batch)  # pyright: ignore[reportArgumentType]

    core.runner.run = watched  # type: ignore[method-assign,assignment]
    params = SamplingParams(max_tokens=3, ignore_eos=True)
    ends = lambda task: seen.append("end")  # noqa: E731
    task = core.generate(
        core.open([72, 101]), params, key=0, on_done=ends, on_text=lambda text: seen.append("text")
    )
    while core.busy:
        core.step()
    steps = [at for at, each in enumerate(seen) if each == "step"]
    assert len(steps) == 3
    assert seen[0:2] == ["step", "step"], "the first token's text waits for the second step"
    assert seen[-1] == "end"
    assert task.drawn == toy_text([72, 101], 3)


def test_what_is_drawn_behind_a_stop_is_dropped(late_core: Making) -> None:
    """Its company stays as it is, and its blocks come back."""
    core = late_core(block_size=4)
    text = toy_text([5, 6, 7], 8)
    stop = core.tokenizer.decode(text[:3])
    stopped = core.generate(
        core.open([5, 6, 7]),
        SamplingParams(max_tokens=8, ignore_eos=True, stop=[stop]),
        key=0,
        on_done=nobody,
    )
    other = core.generate(
        core.open([9]), SamplingParams(max_tokens=8, ignore_eos=True), key=0, on_done=nobody
    )
    drive(core)
    assert stopped.finish_reason == "stop"
    assert stopped.usage.generated == len(stopped.drawn) == 3
    assert other.drawn == toy_text([9], 8)


def test_a_token_that_is_refused_was_not_drawn(late_core: Making) -> None:
    core, left = late_core(), [3]

    def count() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise GenerationError("no more of them")

    task = core.generate(
        core.open([1, 2]),
        SamplingParams(max_tokens=9, ignore_eos=True),
        key=0,
        on_done=nobody,
        on_token=count,
    )
    drive(core)
    assert isinstance(task.error, GenerationError)
    assert task.drawn == toy_text([1, 2], 3)
    assert task.sequence.tokens == [1, 2, *task.drawn]


@pytest.mark.parametrize("which", ["itself", "a score", "a text"])
def test_who_is_told_may_end_others_of_the_step(late_core: Making, which: str) -> None:
    core = late_core(prefill_chunk=4, block_size=4)
    victims: dict[str, Task] = {}
    told = list[str]()

    def end(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            core.close(victims[which].sequence)

    def start(prompt: list[int], on_text: Callable[[str], None] | None = None) -> Generation:
        params = SamplingParams(max_tokens=8, ignore_eos=True)
        return core.generate(core.open(prompt), params, key=0, on_done=nobody, on_text=on_text)

    victims["itself"] = start([72, 73], end)
    victims["a text"] = start([80, 81])
    victims["a score"] = core.score(core.open([7] * 40), 1, on_done=nobody)
    last = start([90])
    drive(core)
    for name, task in victims.items():
        assert isinstance(task.error, Aborted) is (name == which)
    assert last.drawn == toy_text([90], 8)


def test_a_step_that_fails_comes_after_the_text(late_core: Making) -> None:
    core, told = late_core(), list[str]()
    toy_model(core).fail_at = {2}
    task = core.generate(
        core.open([72, 73]),
        SamplingParams(max_tokens=8, ignore_eos=True),
        key=0,
        on_done=nobody,
        on_text=told.append,
    )
    drive(core)
    assert isinstance(task.error, StepError)
    assert task.drawn == toy_text([72, 73], 2)
    assert "".join(told) == task.text.text
    assert task.untold is None


def test_an_abort_drops_what_nobody_was_told(late_core: Making) -> None:
    core = late_core()
    start = partial(core.generate, key=0, on_done=nobody)
    task = start(core.open([72, 73]), SamplingParams(max_tokens=8, ignore_eos=True))
    core.step()
    core.step()
    assert task.untold is not None
    core.abort(task)
    assert task.drawn == toy_text([72, 73], 1)
    assert task.sequence.tokens == [72, 73, *task.drawn]
    drive(core)

"""Prompts of tokens on an engine, each with its samples, told to the event loop as they grow.

Below programs: it drives sequences and tasks, so that every token and its log-probability is known.
Knows no HTTP and no dialect.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import cast

from ramet.params import SamplingParams
from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import EngineClosed
from ramet.runtime.grammar import Grammar
from ramet.runtime.grammar.compilation import Compilation
from ramet.runtime.sampling import Draw, sample_key
from ramet.runtime.sequence import Generation, Scoring, Sequence, Task, Top
from ramet.types import Type


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is wanted of one prompt."""

    tokens: list[int]
    params: SamplingParams  # of one sample
    seed: int
    samples: int = 1  # to be drawn; with none, the prompt is only computed, and scored
    best: int | None = None  # keep so many, those with the best log-probability on average
    type: Type | None = None  # what the whole text has to be
    score_from: int | None = None  # score the prompt's tokens from this one on; the first has none
    scope: bytes = b""  # whose blocks it shares


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probabilities of the prompt's tokens from `start` on, and the likeliest in each place."""

    start: int
    logprobs: list[float]
    tops: list[Top]


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that a sample released, and those of its draws whose text is released by now."""

    sample: int
    text: str
    draws: tuple[Draw, ...] = ()  # where log-probabilities are asked for


@dataclass(frozen=True, slots=True)
class Ended:
    """A sample that is over: what it wrote in all, and the draws that no delta had."""

    sample: int
    text: str
    tokens: tuple[int, ...]  # drawn, those that ended it too
    draws: tuple[Draw, ...]
    finish_reason: str  # "eos", "stop", "grammar" or "length"
    stopped_by: str | None  # the stop string, or the pattern
    score: float = 0.0  # mean log-probability of its draws, where they are asked for


@dataclass(frozen=True, slots=True)
class Spent:
    """What it took; the last item."""

    prompt: int
    reused: int  # tokens of the prompt whose keys and values were there
    generated: int
    queued: float  # seconds until it first ran


Item = Scored | Delta | Ended | Spent
Queue = asyncio.Queue[Item | Exception]


class Generator:
    """Takes asks to an engine, from one event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waited: set[Queue] = set()  # the loop's
        self._under_way: set[_Work] = set()  # the engine's thread's
        self._mail: deque[tuple[Queue, Item | Exception]] = deque()
        self._rung = False
        engine.admit(self)

    async def items(self, ask: Ask) -> AsyncGenerator[Item]:
        """What becomes of it, item by item; closing it early cancels it.

        Raises what ended it: `ParameterError`, or an `EngineError`.
        """
        self._loop = asyncio.get_running_loop()
        queue: Queue = asyncio.Queue()
        work = _Work(self, ask, queue)
        self._engine.post(work.begin)
        self._waited.add(queue)
        over = False
        try:
            while not over:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                over = isinstance(item, Spent)
                yield item
        finally:
            self._waited.discard(queue)
            if not over:
                with suppress(EngineClosed):
                    self._engine.post(lambda core: work.close())

    def give_up(self, error: Exception) -> None:
        """Whoever waits gets that error, at once, also while a step does not end."""
        for queue in self._waited:
            queue.put_nowait(error)

    # -- on the engine's thread

    def fail(self, error: Exception) -> None:
        for work in list(self._under_way):
            work.fail(error)

    def begun(self, work: "_Work") -> None:
        self._under_way.add(work)

    def ended(self, work: "_Work") -> None:
        self._under_way.discard(work)

    def send(self, queue: Queue, item: Item | Exception) -> None:
        """Many items of a step wake the loop once."""
        assert self._loop is not None, "an ask came from it"
        self._mail.append((queue, item))
        if not self._rung:
            self._rung = True
            with suppress(RuntimeError):  # the loop is gone: nobody is there to be told
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._rung = False
        while self._mail:
            queue, item = self._mail.popleft()
            queue.put_nowait(item)


class _Work:
    """One ask. All but making it happens on the engine's thread."""

    def __init__(self, house: Generator, ask: Ask, queue: Queue) -> None:
        self._house = house
        self._ask = ask
        self._queue = queue
        self._arrived = time.monotonic()
        self._entered = 0.0
        self._reused: int | None = None
        self._opened: list[Sequence] = []
        self._waits = ExitStack()
        self._samples: list[_Sample] = []
        self._grammar: Grammar | None = None
        self._over = False

    def begin(self, core: EngineCore) -> None:
        self._core = core
        self._house.begun(self)
        self._attempt(self._begin)

    def close(self) -> None:
        """Give everything back; what is under way is aborted."""
        if self._over:
            return
        self._over = True
        self._waits.close()
        for sequence in self._opened:
            self._core.close(sequence)
        self._house.ended(self)

    def fail(self, error: Exception) -> None:
        if not self._over:
            self.close()
            self._tell(error)

    # -- how

    def _attempt(self, step: Callable[[], None]) -> None:
        if self._over:
            return
        try:
            step()
        except Exception as error:
            self.fail(error)

    def _begin(self) -> None:
        ask = self._ask
        first = self._open(self._core.open(ask.tokens, ask.scope))
        if ask.samples:
            self._core.limit(first, ask.params)  # raises before anything is computed
        if ask.type is None or not ask.samples:
            self._compute(None)
            return
        compilation = self._core.grammars.compile(ask.type)
        if compilation.over:
            self._compute(compilation)
            return
        call = partial(self._attempt, partial(self._compute, compilation))
        self._waits.enter_context(self._core.grammars.telling(compilation, call))

    def _open(self, sequence: Sequence) -> Sequence:
        self._opened.append(sequence)
        return sequence

    def _compute(self, compilation: Compilation | None) -> None:
        """Score the prompt, if asked for, and compute what several samples begin with."""
        self._waits.close()
        ask, first = self._ask, self._opened[0]
        self._grammar = None if compilation is None else compilation.start()
        draw = partial(self._attempt, self._draw)
        if ask.score_from is not None and ask.score_from < len(first.tokens):
            start = max(1, ask.score_from)
            self._core.score(
                first,
                min(start, len(first.tokens)),
                on_done=lambda task: self._scored(task, draw),
                top=ask.params.logprobs or 0,
            )
        elif ask.samples == 0:
            self._core.score(
                first, len(first.tokens), on_done=lambda task: self._computed(task, draw)
            )
        elif ask.samples > 1 and len(first.tokens) > 1:
            last = first.tokens.pop()  # each sample wants its logits
            self._core.score(
                first,
                len(first.tokens),
                on_done=lambda task: self._computed(task, draw, last),
            )
        else:
            self._draw()

    def _scored(self, task: Task, go_on: Callable[[], None]) -> None:
        scoring = cast("Scoring", task)
        if task.error is None and not self._over:
            self._tell(Scored(scoring.start, scoring.logprobs, scoring.tops))
        self._computed(task, go_on)

    def _computed(self, task: Task, go_on: Callable[[], None], last: int | None = None) -> None:
        if self._over:
            return
        self._seen(task)
        if task.error is not None:
            self.fail(task.error)
            return
        if last is not None:
            task.sequence.tokens.append(last)
        go_on()

    def _draw(self) -> None:
        """Draw the samples side by side, on forks that share the whole prompt."""
        ask, first = self._ask, self._opened[0]
        if not ask.samples:
            self._end()
            return
        for _ in range(ask.samples - 1):
            self._open(self._core.fork(first))
        self._samples = [_Sample(number) for number in range(ask.samples)]
        for sample, sequence in zip(self._samples, list(self._opened), strict=True):
            if self._over:
                return
            self._generate(sample, sequence)

    def _generate(self, sample: "_Sample", sequence: Sequence) -> None:
        ask = self._ask
        params, grammar = ask.params, self._grammar
        if ask.best is not None:
            params = replace(params, logprobs=params.logprobs or 0)
        sample.task = self._core.generate(
            sequence,
            params,
            key=sample_key(ask.seed, "server", sample.number),
            on_done=lambda task: self._drawn(sample, task),
            on_text=None if ask.best is not None else partial(self._told, sample),
            grammar=grammar if grammar is None or sample.number == 0 else grammar.copy(),
        )

    def _told(self, sample: "_Sample", text: str) -> None:
        if not self._over:
            self._tell(Delta(sample.number, text, sample.draws_of(text)))

    def _drawn(self, sample: "_Sample", task: Task) -> None:
        if self._over:
            return
        self._seen(task)
        if task.error is not None:
            self.fail(task.error)
            return
        sample.ended = sample.end()
        if self._ask.best is None:
            self._tell(sample.ended)
        if all(each.ended is not None for each in self._samples):
            self._end()

    def _seen(self, task: Task) -> None:
        if self._reused is None:
            self._reused = min(task.prompt, task.usage.prompt_reused)
            self._entered = task.entered

    def _end(self) -> None:
        ended = [sample.ended for sample in self._samples if sample.ended is not None]
        if self._ask.best is not None:
            ranked = sorted(ended, key=lambda each: -each.score)[: self._ask.best]
            for number, each in enumerate(ranked):
                self._tell(replace(each, sample=number))
        self.close()
        generated = sum(len(each.tokens) for each in ended)
        waited = max(0.0, self._entered - self._arrived)
        self._tell(Spent(len(self._ask.tokens), self._reused or 0, generated, waited))

    def _tell(self, item: Item | Exception) -> None:
        self._house.send(self._queue, item)


class _Sample:
    """One text on its way."""

    task: Generation

    def __init__(self, number: int) -> None:
        self.number = number
        self.ended: Ended | None = None
        self._characters = 0
        self._told = 0  # draws

    def draws_of(self, text: str) -> tuple[Draw, ...]:
        """The draws whose text is released, now that this is."""
        self._characters += len(text)
        task = getattr(self, "task", None)  # none yet while tokens are taken at its start
        if task is None or not task.draws:
            return ()
        return self._draws(task.text.whole(self._characters, self._told))

    def end(self) -> Ended:
        task = self.task
        rest = self._draws(task.kept) if task.draws else ()
        logprobs = [draw.logprob or 0.0 for draw in task.draws]
        return Ended(
            sample=self.number,
            text=task.text.text,
            tokens=tuple(task.drawn),
            draws=rest,
            finish_reason=task.finish_reason,
            stopped_by=task.text.stopped_by,
            score=fmean(logprobs) if logprobs else 0.0,
        )

    def _draws(self, upto: int) -> tuple[Draw, ...]:
        draws = tuple(self.task.draws[self._told : upto])
        self._told = max(self._told, upto)
        return draws

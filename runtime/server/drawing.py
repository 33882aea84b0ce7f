"""One prompt computed, scored and gone on from in samples that share it. On the engine's thread.

Knows sequences and tasks; no HTTP, no event loop.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Self, cast

from ramet.runtime.core import EngineCore
from ramet.runtime.errors import PromptError
from ramet.runtime.grammar import Grammar
from ramet.runtime.grammar.compilation import Compilation
from ramet.runtime.sampling import Draw, sample_key
from ramet.runtime.sequence import Generation, Scoring, Sequence, Task
from ramet.runtime.server.asks import Ask, Delta, Ended, Item, Scored, Spent


class Drawing:
    """One ask. All but making it happens on the engine's thread."""

    def __init__(
        self,
        ask: Ask,
        tell: Callable[[Item | Exception], None],
        ended: Callable[[Self], None],
    ) -> None:
        self._ask = ask
        self._tell = tell
        self._ended = ended
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
        self._attempt(self._begin)

    def close(self) -> None:
        """Give everything back; what is under way is aborted."""
        if self._over:
            return
        self._over = True
        self._waits.close()
        for sequence in self._opened:
            self._core.close(sequence)
        self._ended(self)

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
        first = self._open(self._core.open(ask.tokens, ask.scope, ask.maker))
        if not ask.tokens:
            raise PromptError("there is no text to continue: the prompt is empty")
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
        if ask.score_from is not None and max(1, ask.score_from) >= len(first.tokens):
            self._tell(Scored(len(first.tokens), [], []))
        elif ask.score_from is not None:
            self._core.score(
                first,
                max(1, ask.score_from),
                on_done=lambda task: self._scored(task, draw),
                top=ask.params.logprobs or 0,
            )
            return
        if ask.samples == 0:
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

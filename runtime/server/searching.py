"""One prompt gone on from by a beam search. On the engine's thread.

The search is that of a program's `gen`, on a state that begins with the prompt's tokens. Knows no
HTTP, no event loop.
"""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Self

from ramet.limits import Limits
from ramet.meter import Meter
from ramet.nodes import Gen, Root
from ramet.runtime.chat import ChatFormat
from ramet.runtime.core import EngineCore
from ramet.runtime.events import Event, TextDelta
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.server.asks import Ask, Delta, Ended, Item, Spent
from ramet.runtime.steps import RUN
from ramet.runtime.values import GenInfo, SamplesInfo
from ramet.runtime.works import Works

_NAME = "text"


class Searching:
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
        self._run: Interpreter | None = None
        self._pumping = False
        self._over = False

    def begin(self, core: EngineCore) -> None:
        ask = self._ask
        node = Gen(0, _NAME, replace(ask.params, n=ask.samples), ask.type)
        self._run = run = Interpreter(
            core,
            ChatFormat(core.tokenizer),
            RUN,
            ask.seed,
            Meter(Limits(tokens=2 * ask.params.max_tokens * ask.params.beams, seconds=inf)),
            Works(),
            self._event,
            ask.scope,
            self._pump,
            ask.maker,
        )
        run.accept(0, Root())
        run.opened(run.root).tokens.extend(ask.tokens)
        run.accept(1, node)
        run.close()
        self._pump()

    def close(self) -> None:
        """Give everything back; what is under way is aborted."""
        if not self._over:
            self._over = True
            if self._run is not None:
                self._run.end(self._run.root)
            self._ended(self)

    def fail(self, error: Exception) -> None:
        if not self._over:
            self.close()
            self._tell(error)

    # -- how

    def _pump(self) -> None:
        """Go on as far as it goes; what becomes ready meanwhile, too."""
        run = self._run
        if run is None or self._over or self._pumping:
            return
        self._pumping = True
        try:
            run.pump()
        finally:
            self._pumping = False
        if run.error is not None:
            self.fail(run.error)
        elif run.over:
            self._end(run)

    def _event(self, event: Event) -> None:
        if isinstance(event, TextDelta) and not self._over:
            self._tell(Delta(event.sample, event.text))

    def _end(self, run: Interpreter) -> None:
        info, usage = run.root.infos[_NAME], run.root.usage
        found = info.samples if isinstance(info, SamplesInfo) else (info,)
        self.close()
        for number, each in enumerate(found):
            assert isinstance(each, GenInfo), "a search makes texts"
            self._tell(
                Ended(
                    sample=number,
                    text=each.text,
                    tokens=each.tokens,
                    draws=each.logprobs[:-1] if _is_ended(each) else each.logprobs,
                    finish_reason=each.finish_reason,
                    stopped_by=each.stop,
                    score=each.score or 0.0,
                )
            )
        prompt = len(self._ask.tokens)
        self._tell(Spent(prompt, min(prompt, usage.prompt_reused), usage.generated))


def _is_ended(info: GenInfo) -> bool:
    """Whether its last token ended it, and is no text."""
    return info.stop is None and info.finish_reason in ("eos", "stop")

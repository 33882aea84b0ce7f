"""The text of one generation as it grows: characters out, stops found, and what a cut leaves.

Knows tokens and text; no logits, no blocks, no other generation.
"""

from collections.abc import Sequence
from copy import copy
from typing import Self

from ramet.params import SamplingParams
from ramet.runtime.detokenizer import Detokenizer
from ramet.runtime.stop import Release, StopChecker
from ramet.runtime.tokenizer import Tokenizer


class TextStream:
    """Turns drawn tokens into text that may be shown, and says when a stop string is complete.

    After a cut, `kept_tokens` drawn tokens lie wholly before it, and `leftover` is the text between
    the last of them and the cut: it belongs to the output, but no whole token spells it.
    """

    def __init__(
        self, tokenizer: Tokenizer, params: SamplingParams, context: Sequence[int] = ()
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer, context)
        self._stop = StopChecker(params)
        self._ends: list[int | None] = []  # characters after each token; None inside of one
        self._seen = 0
        self._parts: list[str] = []
        self.stopped_by: str | None = None
        self.kept_tokens = 0
        self.leftover = ""

    @property
    def text(self) -> str:
        """All that was released."""
        return "".join(self._parts)

    def copy(self) -> Self:
        """One with the same past, for a branch."""
        other = copy(self)
        other._detokenizer = self._detokenizer.copy()
        other._stop = self._stop.copy()
        other._ends = list(self._ends)
        other._parts = list(self._parts)
        return other

    def push(self, token: int) -> str:
        """The text that this token lets go; nothing after a stop."""
        delta = self._detokenizer.push(token)
        self._seen += len(delta)
        self._ends.append(None if self._detokenizer.unfinished else self._seen)
        return self._release(self._stop.push(delta, len(self._ends)))

    def finish(self) -> str:
        """What was held back, when there are no more tokens."""
        if self.stopped:
            return ""
        return self._release(self._stop.finish(self._detokenizer.flush(), len(self._ends)))

    def _release(self, release: Release) -> str:
        self._parts.append(release.text)
        if release.cut is not None:
            self.stopped_by = release.stop
            self._cut(release.cut)
        return release.text

    @property
    def stopped(self) -> bool:
        return self.stopped_by is not None

    def _cut(self, at: int) -> None:
        begin = 0
        for count, end in enumerate(self._ends, 1):
            if end is not None and end <= at:
                self.kept_tokens, begin = count, end
        self.leftover = self.text[begin:at]

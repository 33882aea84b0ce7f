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

    The tokens may begin with text that was `healed`, taken back from the context: it is not shown,
    and no stop is found in it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        params: SamplingParams,
        context: Sequence[int] = (),
        healed: str = "",
    ) -> None:
        self._tokenizer = tokenizer
        self._healed = healed
        self._unspelled = len(healed.encode())  # bytes of it that are not drawn again yet
        self._healing_tokens = 0  # that were drawn for it
        self._detokenizer = Detokenizer(tokenizer, context)
        self._stop = StopChecker(params)
        self._ends: list[int | None] = []  # characters after each token; None inside of one
        self._seen = 0  # characters, healed ones too
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
        if self._unspelled:
            self._unspelled = max(0, self._unspelled - len(self._tokenizer.token_bytes(token)))
            self._healing_tokens += 1
        delta = self._shown(self._detokenizer.push(token))
        self._ends.append(None if self._detokenizer.unfinished else self._seen)
        return self._release(self._stop.push(delta, len(self._ends)))

    @property
    def healing(self) -> bool:
        """Whether healed text is still to be drawn again."""
        return self._unspelled > 0

    def heals(self, token: int) -> bool:
        """Whether this token, not pushed yet, only spells text that was healed."""
        return 0 < len(self._tokenizer.token_bytes(token)) <= self._unspelled

    def finish(self) -> str:
        """What was held back, when there are no more tokens."""
        if self.stopped:
            return ""
        delta = self._shown(self._detokenizer.flush())
        return self._release(self._stop.finish(delta, len(self._ends)))

    def whole(self, characters: int, since: int = 0) -> int:
        """How many of the drawn tokens lie wholly in so many characters of the text released; at
        least the first `since` do."""
        whole = since
        for at in range(since, len(self._ends)):
            end = self._ends[at]
            if end is not None:
                if end > len(self._healed) + characters:
                    break
                whole = at + 1
        return whole

    def kept(self, tokens: int) -> int:
        """Of so many first tokens, those that stay: all, unless they break off the healed text,
        whose rest is the `leftover` then."""
        if not self._unspelled and tokens >= self._healing_tokens:
            return tokens
        del self._ends[tokens:]
        self._cut(len(self._healed))
        return self.kept_tokens

    def _shown(self, delta: str) -> str:
        hidden = max(0, len(self._healed) - self._seen)
        self._seen += len(delta)
        return delta[hidden:]

    def _release(self, release: Release) -> str:
        self._parts.append(release.text)
        if release.cut is not None:
            self.stopped_by = release.stop
            self._cut(len(self._healed) + release.cut)
        return release.text

    @property
    def stopped(self) -> bool:
        return self.stopped_by is not None

    def _cut(self, at: int) -> None:
        begin = 0
        for count, end in enumerate(self._ends, 1):
            if end is not None and end <= at:
                self.kept_tokens, begin = count, end
        self.leftover = (self._healed + self.text)[begin:at]

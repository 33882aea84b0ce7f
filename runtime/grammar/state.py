"""How far one text has come in its grammar. Knows bytes and tokens; no logits, no batch."""

from typing import Self

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from ramet.errors import shown
from ramet.runtime.errors import ConstraintError
from ramet.runtime.grammar.source import TOO_COMPLEX, refuse
from ramet.runtime.grammar.vocabulary import Vocabulary
from ramet.types import Type


class Grammar:
    """The grammar of one text, after the tokens that it accepted.

    Made by `GrammarCompiler.start`; a branch goes on with a `copy`. Copies share the engine's
    lexer, which grows as they go: when one finds it too complex, the `origin` is `broken` and is
    compiled anew for the next text.
    """

    __slots__ = ("_mask", "_matcher", "_origin", "_tokens", "_vocabulary", "broken", "type")

    def __init__(
        self, type: Type, matcher: LLMatcher, vocabulary: Vocabulary, origin: Self | None = None
    ) -> None:
        self.type = type
        self.broken = False
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._origin = origin or self
        self._mask: NDArray[np.uint8] | None = None
        self._tokens = 0

    def begun(self) -> Self:
        """This one, once it is known that a text can begin; `GrammarError` if none can."""
        try:
            finished = self.finished
        except ConstraintError as error:
            refuse(self.type, error.reason)
        if finished:
            refuse(self.type, "only the empty text matches")
        return self

    def copy(self) -> Self:
        other = self.__class__(self.type, self._matcher.deep_copy(), self._vocabulary, self._origin)
        other._mask = self._mask
        other._tokens = self._tokens
        return other

    def mask(self) -> NDArray[np.uint8]:
        """The tokens that may come next, packed as `Vocabulary` says [ceil(V / 8)]; not to be
        changed. Those that end the text are among them exactly when it `can_end`.

        Raises:
            ConstraintError: there are none, or finding them is too complex.
        """
        if self._mask is None:
            self._mask = self._next()
        return self._mask

    def accept(self, token: int) -> None:
        """The token, of the mask and no end, belongs to the text now.

        Raises:
            ConstraintError: no text of the grammar goes on with it, or finding out is too complex.
        """
        self._mask = None
        self._tokens += 1
        if not self._matcher.consume_tokens([token]):
            raise self._stuck(self._matcher.get_error())

    @property
    def can_end(self) -> bool:
        """Whether the text is whole as it is."""
        return self._matcher.is_accepting()

    @property
    def finished(self) -> bool:
        """Whether the text can only end. Raises `ConstraintError` as `mask` does."""
        return not (self.mask() & ~self._vocabulary.ends).any()

    @property
    def ends(self) -> list[int]:
        """The tokens that end a text, in order."""
        return self._vocabulary.eos

    @property
    def size(self) -> int:
        """Tokens that a mask speaks of."""
        return self._vocabulary.size

    def matches(self, text: str) -> bool:
        """Whether this text is whole, from its beginning."""
        matcher = self._origin._matcher.deep_copy()
        tokens = self._vocabulary.engine.greedy_tokenize(text)
        return matcher.consume_tokens(tokens) and matcher.is_accepting()

    def _next(self) -> NDArray[np.uint8]:
        """The engine's mask, but for control tokens, which a grammar can name."""
        texts = self._vocabulary.texts
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise self._stuck(self._matcher.get_error())
        mask = bits[: len(texts)] & texts
        if self.can_end:
            return mask | self._vocabulary.ends
        if not mask.any():
            raise self._stuck("")
        return mask

    def _stuck(self, said: str) -> ConstraintError:
        reason = said.partition("\n")[0]
        if TOO_COMPLEX.search(reason):
            self._origin.broken = True
            reason = f"too complex ({reason})"
        elif not reason or reason == "NoExtensionBias":
            reason = "no token leads on to a whole text"
        return ConstraintError(f"{self.type.kind} {shown(self.type.source)}", self._tokens, reason)

"""How far one text has come in its grammar. Knows bytes and tokens; no logits, no batch."""

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Self

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from ramet.errors import shown
from ramet.runtime.errors import ConstraintError
from ramet.runtime.grammar.source import TOO_COMPLEX, refuse
from ramet.runtime.grammar.vocabulary import Vocabulary
from ramet.types import Type

Mask = NDArray[np.uint8]


class Grammar:
    """The grammar of one text, after the tokens that it accepted.

    Its tokens begin with the text that it comes `after`, if there is one.

    Made by a `GrammarCompiler`; a branch goes on with a `copy`. Copies share the engine's lexer,
    which grows as they go: when one finds it too complex, the `origin` is `broken` and is compiled
    anew for the next text.

    For one thread. A mask that is computed elsewhere (`look_ahead`) is waited for before anything
    else touches the engine's state.
    """

    __slots__ = (
        "_after",
        "_ahead",
        "_at",
        "_forced",
        "_mask",
        "_masking",
        "_matcher",
        "_origin",
        "_tokens",
        "_vocabulary",
        "broken",
        "type",
    )

    def __init__(
        self,
        type: Type,
        matcher: LLMatcher,
        vocabulary: Vocabulary,
        masking: Executor,
        origin: Self | None = None,
        after: str = "",
    ) -> None:
        self.type = type
        self.broken = False
        self._after = after
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._masking = masking
        self._origin = origin or self
        self._mask: Mask | None = None
        self._ahead: Future[Mask] | None = None
        self._forced: Sequence[int] | None = None  # a run of tokens without a choice, of which
        self._at = 0  # `_at` are accepted, never all; None: it has to be found out
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
        other = self.__class__(
            self.type,
            self._settled.deep_copy(),
            self._vocabulary,
            self._masking,
            self._origin,
            self._after,
        )
        other._mask = self._mask
        other._forced, other._at = self._forced, self._at
        other._tokens = self._tokens
        return other

    def mask(self) -> Mask:
        """The tokens that may come next, packed as `Vocabulary` says [ceil(V / 8)]; not to be
        changed. Those that end the text are among them exactly when it `can_end`.

        Raises:
            ConstraintError: there are none, or finding them is too complex.
        """
        if self._mask is None:
            ahead, self._ahead = self._ahead, None
            self._mask = self._next() if ahead is None else ahead.result()
        return self._mask

    def look_ahead(self) -> None:
        """Begin to compute the mask on another thread; `mask` waits for it, and raises for it."""
        if self._mask is None and self._ahead is None:
            with suppress(RuntimeError):  # a closed engine has no such thread
                self._ahead = self._masking.submit(self._next)

    def allows(self, token: int) -> bool:
        """Whether this token may come next and does not end the text. Costs little: finds no mask.
        Where that cannot be found out, `mask` raises for it.
        """
        matcher = self._settled
        if self._mask is not None:
            allowed = bool(self._mask[token // 8] >> token % 8 & 1)
            return allowed and self._vocabulary.is_text(token)
        if (forced := self._force()) is not None:
            return token == forced
        return self._vocabulary.is_text(token) and matcher.validate_tokens([token]) == 1

    def forced(self) -> int | None:
        """The token that comes next whatever the model says; None if it has a say.

        Where some bytes are certain, all their tokens are found together, as the tokenizer writes
        them, but for the last ones if what follows may be written with those.
        """
        _ = self._settled
        return self._force()

    def accept(self, token: int) -> None:
        """The token, of the mask and no end, belongs to the text now.

        Raises:
            ConstraintError: no text of the grammar goes on with it, or finding out is too complex.
        """
        matcher = self._settled
        self._mask = None
        self._tokens += 1
        self._at += 1
        if not self._forced or self._forced[self._at - 1] != token or self._at == len(self._forced):
            self._forced = None
        if not matcher.consume_tokens([token]):
            raise self._stuck(matcher.get_error())

    @property
    def can_end(self) -> bool:
        """Whether the text is whole as it is."""
        return self._settled.is_accepting()

    @property
    def over(self) -> bool:
        """Whether the text can only end, as far as is known without a mask."""
        return self._settled.is_stopped() and self.can_end

    @property
    def finished(self) -> bool:
        """Whether the text can only end. Raises `ConstraintError` as `mask` does."""
        return self.over or not (self.mask() & ~self._vocabulary.ends).any()

    @property
    def ends(self) -> list[int]:
        """The tokens that end a text, in order."""
        return self._vocabulary.eos

    @property
    def size(self) -> int:
        """Tokens that a mask speaks of."""
        return self._vocabulary.size

    def matches(self, text: str) -> bool:
        """Whether this text is whole, from its beginning behind what it comes after."""
        matcher = self._origin._matcher.deep_copy()
        tokens = self._vocabulary.engine.greedy_tokenize(self._after + text)
        return matcher.consume_tokens(tokens) and matcher.is_accepting()

    @property
    def _settled(self) -> LLMatcher:
        """The engine's state, which nobody else is using."""
        if self._ahead is not None:
            with suppress(ConstraintError):  # whoever asks for the mask gets one of their own
                self._mask = self._ahead.result()
            self._ahead = None
        return self._matcher

    def _force(self) -> int | None:
        if self._forced is None:
            found = self._matcher.compute_ff_tokens()
            control = (at for at, t in enumerate(found) if not self._vocabulary.is_text(t))
            self._forced, self._at = found[: next(control, len(found))], 0
        return self._forced[self._at] if self._forced else None

    def _next(self) -> Mask:
        """The engine's mask, but for control tokens, which a grammar can name."""
        forced = self._force()
        if forced is not None:
            return self._vocabulary.packed([forced])
        matcher, texts = self._matcher, self._vocabulary.texts
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        if matcher.is_error():
            raise self._stuck(matcher.get_error())
        mask = bits[: len(texts)] & texts
        if matcher.is_accepting():
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

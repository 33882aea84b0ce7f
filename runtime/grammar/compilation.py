"""A type on its way to its grammar. Knows no thread: who compiles it is the compiler's affair."""

from concurrent.futures import CancelledError, Future

from ramet.runtime.errors import EngineClosed, GrammarError
from ramet.runtime.grammar.state import Grammar
from ramet.types import Type


class Compilation:
    """A type, and what it is compiled to, now or soon. For as many texts as ask for it."""

    __slots__ = ("_made", "type")

    def __init__(self, type: Type, made: "Future[Grammar]") -> None:
        self.type = type
        self._made = made

    @property
    def over(self) -> bool:
        """Whether `start` need not wait."""
        return self._made.done()

    @property
    def broken(self) -> bool:
        """Whether a text of it has found it too complex since, so that it serves no other."""
        return self.over and not self._made.cancelled() and _is_broken(self._made)

    def start(self) -> Grammar:
        """A text of this type, before its first token. Waits, if need be.

        Raises:
            GrammarError: the pattern, schema or grammar is wrong, too complex, or allows no text
                but the empty one; or the tokens of this model stand for no bytes.
            EngineClosed: it was not compiled before the engine was closed.
        """
        try:
            return self._made.result().copy()
        except CancelledError:
            raise EngineClosed("the engine is closed") from None
        except GrammarError as error:  # everybody who asked gets one of their own
            raise GrammarError(error.kind, error.source, error.reason) from None


def _is_broken(made: "Future[Grammar]") -> bool:
    return made.exception() is None and made.result().broken

"""A type on its way to its grammar. Knows no thread: who compiles it is the compiler's affair."""

from concurrent.futures import CancelledError, Future

from ramet.runtime.errors import EngineClosed, EngineError, GrammarError
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
        """Whether it serves no other text: one found it too complex since, or it was given up, or
        failed for a reason that is not the type's."""
        return self.over and (self._made.cancelled() or _is_broken(self._made))

    def give_up(self) -> None:
        """Nobody waits for it: if it was not begun, it never is."""
        self._made.cancel()

    def start(self) -> Grammar:
        """A text of this type, before its first token. Waits, if need be.

        Raises:
            GrammarError: the pattern, schema or grammar is wrong, too complex, or allows no text
                but the empty one; or the tokens of this model stand for no bytes.
            EngineClosed: it was not compiled before the engine was closed.
            EngineError: this machine could not compile it.
        """
        try:
            return self._made.result().copy()
        except CancelledError:
            raise EngineClosed("the engine is closed") from None
        except GrammarError as error:  # everybody who asked gets one of their own
            raise GrammarError(error.kind, error.source, error.reason) from None
        except EngineClosed:
            raise EngineClosed("the engine is closed") from None
        except Exception as error:
            raise EngineError(
                f"a {self.type.kind} cannot be compiled: {type(error).__name__}: {error}"
            ) from error


def _is_broken(made: "Future[Grammar]") -> bool:
    error = made.exception()
    return made.result().broken if error is None else not isinstance(error, GrammarError)

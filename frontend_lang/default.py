"""What `program.run(...)` uses when nobody names an engine: the default one, or, inside the body of
another program, the state that body writes on. Knows no engine and no state by name.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Protocol

from ramet.errors import NoRunner


class Runner(Protocol):
    """What can run programs; `program` is positional so that a parameter may have that name."""

    def run(self, program: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run once with these arguments."""
        ...

    def run_batch(self, *args: Any, **options: Any) -> Any:
        """Run the program, the first argument, once for each mapping in the second."""
        ...

    def stream(self, program: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run once, and hand out what is written while it is written."""
        ...


_default: ContextVar[Runner] = ContextVar("ramet_default_runner")


def set_default(runner: Runner) -> Token[Runner]:
    """Make it the default in this context, until `reset` is called with the token."""
    return _default.set(runner)


def reset(token: Token[Runner]) -> None:
    """Go back to what was the default before the token was made."""
    _default.reset(token)


def default_runner(program: str) -> Runner:
    """The default of this context, or `NoRunner` for the program of that name."""
    try:
        return _default.get()
    except LookupError:
        raise NoRunner(
            f"no engine to run {program!r} with: call it inside `with engine:`, "
            f"or use engine.run({program}, ...)"
        ) from None


_state: ContextVar[Any] = ContextVar("ramet_current_state", default=None)


@contextmanager
def current(state: object) -> Generator[None]:
    """Inside, programs are called from that state."""
    token = _state.set(state)
    try:
        yield
    finally:
        _state.reset(token)


def current_state() -> Any:
    """The state of the body that is running; None outside of any."""
    return _state.get()

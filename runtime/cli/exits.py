"""How a command ends: exit codes, and what a person is told about an error. Never a traceback.

The one place where errors become text and exit codes; everything else raises.
"""

import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import typer
from rich.text import Text

from ramet.errors import LanguageError, RametError
from ramet.runtime.cli.terminal import err

OK = 0
WRONG = 1  # the program is wrong, or its run failed
USAGE = 2  # the command line is wrong; typer's own code too
NO_ENGINE = 3  # the engine, or its model, cannot be loaded
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

CODES = (
    "Exit codes: 0 all is well · 1 the program is wrong, or its run failed · 2 the command line is "
    "wrong · 3 the engine or its model cannot be loaded · 130 interrupted"
)


class NoEngine(RametError):
    """The engine, or its model, cannot be loaded."""


class ProgramFailed(LanguageError):
    """A person's own Python raised; the message begins with what it raised."""


@contextmanager
def told() -> Generator[None]:
    """Inside, what goes wrong is told on stderr and becomes an exit code."""
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        err().print("interrupted", style="red")
        raise typer.Exit(INTERRUPTED) from None
    except NoEngine as error:
        complain(error)
        raise typer.Exit(NO_ENGINE) from None
    except RametError as error:
        complain(error)
        raise typer.Exit(WRONG) from None
    except BrokenPipeError:  # nobody reads what we print, which is no mistake of anybody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(WRONG) from None
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        complain(RametError(f"{where}{error.strerror or error}"))
        raise typer.Exit(WRONG) from None


def complain(error: Exception) -> None:
    """The error on stderr: where it is, if that is known, and what it is."""
    err().print(marked(message(error)), soft_wrap=True)


def message(error: Exception) -> str:
    """What a person reads: a place or `error:` first, and what was noted on the way."""
    text = str(error)
    if not isinstance(error, RametError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    placed = isinstance(error, LanguageError) and (error.span or _PLACE.match(text))
    lines = [text if placed else f"error: {text}", *getattr(error, "__notes__", ())]
    return "\n".join(lines)


def failure(error: BaseException) -> dict[str, Any]:
    """What went wrong, and where if that is known."""
    if isinstance(error, KeyboardInterrupt):
        return {"kind": "Interrupted", "message": "interrupted"}
    assert isinstance(error, Exception), "nothing else ends a run"
    found: dict[str, Any] = {"kind": type(error).__name__, "message": message(error)}
    if isinstance(error, LanguageError):
        found["message"] = error.message
        if error.span is not None:
            place = {"file": error.span.file, "line": error.span.line, "column": error.span.column}
            found |= place
    return found


_PLACE = re.compile(r"\S.*?:\d+:\d+(?=: )|error(?=: )")
_CARET = re.compile(r"\s+\^$")


def marked(text: str) -> Text:
    """The message of an error with its places and carets in colour."""
    marked = Text()
    for number, line in enumerate(text.split("\n")):
        marked.append("\n" if number else "")
        if _CARET.match(line):
            marked.append(line, "bold red")
        elif place := _PLACE.match(line):
            marked.append(place[0], "bold red" if place[0] == "error" else "bold")
            marked.append(line[place.end() :])
        else:
            marked.append(line)
    return marked

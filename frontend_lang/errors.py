"""The errors of the language, and how a mistake in a program is shown to the person who made it.

Knows source lines and near misses. Knows nothing of graphs, states or engines.

    RametError                  everything this project raises on purpose
    └── LanguageError           a program, or a call of one, is wrong
        ├── AppendError         something was appended that is no text and no expression
        ├── ArgumentError       a program was called with wrong arguments
        ├── EvaluationError     an expression of a program cannot be computed
        ├── GraphError          a request graph is illegal, or its JSON is
        ├── LimitError          a run, or a source, goes over one of its limits
        ├── NoRunner            a program was asked to run, and there is no engine
        ├── ParameterError      a sampling parameter is unknown, out of range or contradicts another
        ├── SourceError         the text of a program is wrong: all mistakes of a file
        ├── TraceError          a value is needed that only a run can know
        └── UnknownVariable     a variable is read that nothing has bound
"""

import difflib
import linecache
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self
from unicodedata import combining, east_asian_width


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a source: line and column count from one, the column in characters.

    `text` is the line itself, where it is known without opening a file.
    """

    file: str
    line: int
    column: int
    text: str | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def render(self, what: str) -> str:
        """`file:line:column: what`, then the source line with a caret, where the file can be read.

        Without a `text` it opens the file: only for spans that come from running code, never for
        those of a graph that somebody sent.
        """
        line = linecache.getline(self.file, self.line) if self.text is None else self.text
        text = line.strip()
        if not text:
            return f"{self}: {what}"
        before = max(0, self.column - 1 - (len(line) - len(line.lstrip())))
        start = max(0, before - _SHOWN // 2) if len(text) > _SHOWN else 0
        shown = _printable(text[start : start + _SHOWN])
        return f"{self}: {what}\n    {shown}\n    {_blank(text[start:before])}^"


_SHOWN = 160  # characters of a line


def _printable(text: str) -> str:
    """Each character as one that a terminal shows in its place."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text)


def _blank(text: str) -> str:
    """As wide as the text: tabs stay, and wide characters count twice."""
    wide = {"W": "  ", "F": "  "}
    return "".join(
        "\t" if c == "\t" else "" if combining(c) else wide.get(east_asian_width(c), " ")
        for c in text
    )


class RametError(Exception):
    """The base of every error that ramet raises on purpose.

    Where a run was ended by it, `partial` is what there was by then: a `Finished`.
    """

    partial: Any = None


class LanguageError(RametError):
    """A program is wrong. `message` is the bare sentence, `span` the place if there is one."""

    def __init__(self, message: str, span: Span | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.span = span

    def __str__(self) -> str:
        return self.message if self.span is None else self.span.render(self.message)

    def at(self, span: Span | None) -> Self:
        """This error, placed; an error that knows its place keeps it."""
        self.span = self.span or span
        return self


class AppendError(LanguageError, TypeError):
    """Something was appended to a state, or added to an expression, that cannot be."""


class ArgumentError(LanguageError, TypeError):
    """A program was called with wrong arguments."""


class EvaluationError(LanguageError):
    """An expression of a program in text cannot be computed."""


class LimitError(LanguageError):
    """A limit was reached: `limit` names it, `value` is what it was set to."""

    def __init__(self, limit: str, value: float, message: str, span: Span | None = None) -> None:
        super().__init__(message, span)
        self.limit = limit
        self.value = value


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake in a source."""

    span: Span
    message: str

    def __str__(self) -> str:
        return self.span.render(self.message)


class SourceError(LanguageError):
    """The text of a program is wrong: `diagnostics` has every mistake, in the order of lines."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        found = tuple(sorted(diagnostics, key=lambda d: (d.span.line, d.span.column)))
        super().__init__("\n".join(f"{each.span}: {each.message}" for each in found))
        self.diagnostics = found

    def __str__(self) -> str:
        return "\n".join(map(str, self.diagnostics))


class NoRunner(LanguageError):
    """A program was asked to run, and no engine is the default one."""


class ParameterError(LanguageError, ValueError):
    """A sampling parameter is refused: `field` names it, `value` is what was given."""

    def __init__(self, field: str, value: object, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.value = value


class TraceError(LanguageError):
    """A value is needed that only a run can know: `variable` names it."""

    def __init__(self, variable: str, span: Span | None) -> None:
        super().__init__(
            f"the value of {variable!r} is needed here, and only a run can know it", span
        )
        self.variable = variable


class UnknownVariable(LanguageError, LookupError):
    """A variable is read that nothing on this state has bound."""

    def __init__(self, name: object, known: Iterable[str], span: Span | None = None) -> None:
        super().__init__(f"unknown variable {name!r}{near_miss(name, known)}", span)
        self.name = name


@dataclass(frozen=True, slots=True)
class Break:
    """One law that one node breaks."""

    node: int
    kind: str
    law: str
    found: str
    span: Span | None = None

    @property
    def sentence(self) -> str:
        return f"node {self.node} ({self.kind}) breaks {self.law}: {self.found}"

    def __str__(self) -> str:
        return self.sentence if self.span is None else f"{self.span}: {self.sentence}"


class GraphError(LanguageError):
    """A graph is illegal: `breaks` lists the broken laws; `path` is set where its JSON is wrong."""

    def __init__(
        self, message: str, *, breaks: tuple[Break, ...] = (), path: str | None = None
    ) -> None:
        super().__init__(message if path is None else f"{path}: {message}")
        self.breaks = breaks
        self.path = path

    @classmethod
    def of(cls, breaks: Iterable[Break]) -> Self:
        breaks = tuple(breaks)
        return cls("\n".join(map(str, breaks)), breaks=breaks)


def near_miss(name: object, known: Iterable[str]) -> str:
    """`; did you mean 'answer'?`, or nothing when no known name is close."""
    few = islice((each for each in known if len(each) <= 2 * _NAMED), _KNOWN)
    close = difflib.get_close_matches(str(name)[:_NAMED], sorted(few), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


_NAMED, _KNOWN = 64, 1_000  # characters of a name, and names, that are looked at


def shown(value: object) -> str:
    """The value as an error shows it: short, and never with the address of an object in it."""
    if value is None or isinstance(value, _PLAIN):
        return reprlib.repr(value)
    return f"a {type(value).__name__}"


_PLAIN = (bool, int, float, str, bytes)

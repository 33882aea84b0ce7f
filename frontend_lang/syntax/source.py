"""The text of a program, the places in it, and the mistakes found so far."""

from bisect import bisect_right
from functools import cached_property
from itertools import accumulate

from ramet.errors import Diagnostic, SourceError, Span

MAX_DIAGNOSTICS = 50


class Source:
    """A text: tells the place of an offset, and collects mistakes."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.diagnostics: list[Diagnostic] = []

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((len(line) + 1 for line in self._lines[:-1]), initial=0))

    def span(self, at: int) -> Span:
        """The place of the character at that offset."""
        line = bisect_right(self._starts, at) - 1
        return Span(self.file, line + 1, at - self._starts[line] + 1, self._lines[line])

    def cut(self, length: int) -> "Source":
        """Its beginning alone: as much as is looked at of a source that is too long."""
        return Source(self.text[:length], self.file)

    def end_of_line(self, at: int) -> int:
        """The offset of the line end behind that offset, or of the end of the text."""
        found = self.text.find("\n", at)
        return len(self.text) if found < 0 else found

    def mistake(self, span: Span, message: str) -> None:
        """Note a mistake; with too many of them the rest is not looked at."""
        self.diagnostics.append(Diagnostic(span, message))
        if len(self.diagnostics) == MAX_DIAGNOSTICS:
            last = f"{MAX_DIAGNOSTICS} mistakes so far; the rest of the source was not looked at"
            self.diagnostics.append(Diagnostic(span, last))
            raise SourceError(self.diagnostics)

    def check(self) -> None:
        """Raise all mistakes, if there are any."""
        if self.diagnostics:
            raise SourceError(self.diagnostics)

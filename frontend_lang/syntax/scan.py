"""Characters to tokens: lines and their indentation, words, numbers, strings with their holes.

One pass, linear in the source; how deep brackets and holes nest is limited. A line with a mistake
is left out and the others go on, so that all mistakes of a source are found in one go.
"""

import re

from ramet.errors import SourceError
from ramet.limits import Limits
from ramet.syntax.source import Source
from ramet.syntax.tokens import (
    MARKS,
    RESERVED,
    STATEMENTS,
    WITHIN,
    Hole,
    Line,
    Scanned,
    StringToken,
    Token,
)

_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_MARK = "|".join(re.escape(mark) for mark in MARKS)
_TOKEN = re.compile(
    rf"""(?P<blank>[ \t]+)
    | (?P<comment>\#[^\n]*)
    | (?P<newline>\n)
    | (?P<string>r?(?:\"\"\"|'''|"|'))
    | (?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)
    | (?P<word>[^\W\d]\w*)
    | (?P<mark>{_MARK})""",
    re.VERBOSE,
)
_FOREIGN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# Begins a statement, and can hardly begin a line inside brackets.
_BEGINS = re.compile(
    r"( *)(?:assistant|call|elif|extend|fork|gen|keep|let|program|return|score|select|system|user"
    r"|while)\b[^\n]*"
)
_PLAIN = {quote: re.compile(rf"[^{quote}\\{{}}\n]+") for quote in "\"'"}
_SIMPLE_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", "'": "'", '"': '"', "\n": "",
}  # fmt: skip
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}
_HEX = re.compile("[0-9a-fA-F]*")


class _Wrong(Exception):
    """A mistake in the line that is being read."""

    def __init__(self, at: int, message: str, resume: int | None = None) -> None:
        self.at = at
        self.message = message
        self.resume = resume  # where a new line begins; None: behind this one


def scan(source: Source, limits: Limits) -> Scanned:
    """The logical lines of the source; its mistakes are noted there.

    Raises:
        LimitError: it is too long, or nests too deeply.
        SourceError: it is no text, or has too many mistakes.
    """
    return _Scanner(source, limits).scan()


class _Scanner:
    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.text = source.text
        self.limits = limits
        self.at = 0
        self.depth = 0  # open brackets and holes
        self.indent = 0  # of the line that is being read

    def scan(self) -> Scanned:
        self._check_characters()
        found = Scanned()
        lead: list[str] = []
        gap = False
        while self.at < len(self.text):
            blanks = self._blanks()
            end = self.source.end_of_line(self.at)
            if self.at == end:
                gap, self.at = True, end + 1
                continue
            if self.text[self.at] == "#":
                lead.append(self.text[self.at : end].rstrip())
                self.at = end + 1
                continue
            self.depth = 0
            self.indent = blanks
            begin = self.at
            try:
                tokens, tail = self._line(begin - blanks)
                found.lines.append(Line(blanks, tokens, tuple(lead), tail, gap))
            except _Wrong as wrong:
                self.source.mistake(self.source.span(wrong.at), wrong.message)
                behind = self.source.end_of_line(max(self.at, begin)) + 1
                self.at = behind if wrong.resume is None else wrong.resume
            lead, gap = [], False
        found.tail = tuple(lead)
        return found

    def _check_characters(self) -> None:
        source = self.source
        if len(self.text) > self.limits.source_bytes:
            self.limits.hold("source_bytes", len(self.text), source.span(self.limits.source_bytes))
        if (foreign := _FOREIGN.search(self.text)) is not None:
            span = source.span(foreign.start())
            character = foreign.group()
            if character == "\r":
                message = (
                    "the line ends in CR LF; save the file with LF ends, "
                    "since a prompt must not depend on the editor"
                )
            else:
                message = f"the character U+{ord(character):04X} cannot stand in a program"
            source.mistake(span, message)
            raise SourceError(source.diagnostics)
        size = len(self.text.encode())
        if size > self.limits.source_bytes:
            self.limits.hold("source_bytes", size, source.span(len(self.text) - 1))

    def _blanks(self) -> int:
        begin = self.at
        while self.text.startswith(" ", self.at):
            self.at += 1
        return self.at - begin

    # -- a line

    def _line(self, begin: int) -> tuple[list[Token], str]:
        """The tokens up to the line's end, and the comment behind them."""
        if self.text[self.at] == "\t":
            raise _Wrong(self.at, "a line is indented with blanks, not with tabs")
        tokens, tail = self._tokens(None)
        _contextual(tokens)
        return tokens, tail

    def _tokens(self, hole: int | None) -> tuple[list[Token], str]:
        """Tokens to the end of the line, or of the hole that was opened there."""
        tokens: list[Token] = []
        open_brackets: list[tuple[str, int]] = []
        tail = ""
        while self.at < len(self.text):
            found = _TOKEN.match(self.text, self.at)
            if found is None:
                raise _Wrong(self.at, f"{self.text[self.at]!r} cannot stand here")
            kind, begin, value = found.lastgroup, self.at, found.group()
            if kind == "newline":
                if hole is not None:
                    raise _Wrong(hole, _OPEN_HOLE)
                if not open_brackets:
                    self.at = found.end()
                    return tokens, tail
                self._check_bracket_goes_on(open_brackets[-1][1])
            elif kind == "comment":
                if hole is not None:
                    raise _Wrong(begin, "a comment cannot stand inside the braces of a text")
                if not open_brackets:
                    tail = value.rstrip()
            elif kind == "string":
                tokens.append(self._string(value))
                continue
            elif kind == "mark":
                if value == "}" and hole is not None and not open_brackets:
                    return tokens, ""
                self._bracket(value, open_brackets)
                tokens.append(Token(MARKS[value], value, begin, found.end()))
            elif kind is not None and kind != "blank":
                tokens.append(_word_or_number(kind, value, begin))
            self.at = found.end()
        if hole is not None:
            raise _Wrong(hole, _OPEN_HOLE)
        if open_brackets:
            mark, at = open_brackets[-1]
            raise _Wrong(at, f"{mark!r} is never closed", len(self.text))
        return tokens, tail

    def _bracket(self, mark: str, open_brackets: list[tuple[str, int]]) -> None:
        if mark in _CLOSERS:
            self._deeper(self.at)
            open_brackets.append((mark, self.at))
        elif mark in ")]}":
            if not open_brackets:
                raise _Wrong(self.at, f"{mark!r} closes nothing")
            opened, _ = open_brackets.pop()
            if _CLOSERS[opened] != mark:
                raise _Wrong(self.at, f"{mark!r} closes {opened!r}; {_CLOSERS[opened]!r} is needed")
            self.depth -= 1

    def _deeper(self, at: int) -> None:
        self.depth += 1
        self.limits.hold("nesting", self.depth, self.source.span(at))

    def _check_bracket_goes_on(self, opened: int) -> None:
        """A line that begins a statement, no further right: the bracket was forgotten."""
        begins = _BEGINS.match(self.text, self.at + 1)
        if begins is not None and len(begins.group(1)) <= self.indent:
            raise _Wrong(opened, f"{self.text[opened]!r} is never closed", self.at + 1)

    # -- strings

    def _string(self, opening: str) -> Token:
        begin = self.at
        raw, quotes = opening.startswith("r"), opening.lstrip("r")
        self.at += len(opening)
        parts = self._raw(begin, quotes) if raw else self._parts(begin, quotes)
        value = StringToken(parts, raw, len(quotes) == 3)
        return Token("STRING", value, begin, self.at)

    def _raw(self, begin: int, quotes: str) -> list[str | Hole]:
        end = self.text.find(quotes, self.at)
        line_end = len(self.text) if len(quotes) == 3 else self.source.end_of_line(self.at)
        if not 0 <= end < line_end:
            raise self._unclosed(begin, quotes)
        text = self.text[self.at : end]
        self.at = end + len(quotes)
        return [text] if text else []

    def _parts(self, begin: int, quotes: str) -> list[str | Hole]:
        parts: list[str | Hole] = []
        texts: list[str] = []
        plain, triple = _PLAIN[quotes[0]], len(quotes) == 3
        while True:
            if found := plain.match(self.text, self.at):
                texts.append(found.group())
                self.at = found.end()
            if self.text.startswith(quotes, self.at):
                break
            if self.at >= len(self.text) or (self.text[self.at] == "\n" and not triple):
                raise self._unclosed(begin, quotes)
            if self.text.startswith("{", self.at) and not self.text.startswith("{{", self.at):
                if texts:
                    parts.append("".join(texts))
                    texts = []
                parts.append(self._hole())
            else:
                texts.append(self._character())
        self.at += len(quotes)
        return [*parts, "".join(texts)] if texts else parts

    def _character(self) -> str:
        """A quote or a line end inside a triple string, an escape, or a doubled brace."""
        character = self.text[self.at]
        if character == "\\":
            return self._escape()
        if character in "{}":
            if not self.text.startswith(character * 2, self.at):
                raise _Wrong(self.at, "a single '}' in a text; write }} for a brace")
            self.at += 1
        self.at += 1
        return character

    def _hole(self) -> Hole:
        begin = self.at
        self._deeper(begin)
        self.at += 1
        tokens, _ = self._tokens(begin)
        if not tokens:
            raise _Wrong(begin, "nothing stands between the braces; write {{}} for two braces")
        self.at += 1
        self.depth -= 1
        return Hole(tokens, begin)

    def _escape(self) -> str:
        begin = self.at
        letter = self.text[begin + 1 : begin + 2]
        self.at += 2
        if letter in _SIMPLE_ESCAPES and letter:
            return _SIMPLE_ESCAPES[letter]
        if letter not in _HEX_ESCAPES or not letter:
            raise _Wrong(
                begin, f"no escape {self.text[begin : begin + 2]!r}; write \\\\ for a backslash"
            )
        digits = self.text[self.at : self.at + _HEX_ESCAPES[letter]]
        self.at += len(digits)
        found = _HEX.match(digits)
        whole = found is not None and found.end() == _HEX_ESCAPES[letter]
        code = int(digits, 16) if whole else -1
        if not 0 <= code < 0x110000 or 0xD800 <= code < 0xE000:
            raise _Wrong(begin, f"\\{letter}{digits} is no character")
        return chr(code)

    def _unclosed(self, begin: int, quotes: str) -> _Wrong:
        triple = len(quotes) == 3
        self.at = begin
        return _Wrong(
            begin,
            f"the text is never closed; {quotes} is needed",
            len(self.text) if triple else None,
        )


_OPEN_HOLE = "the '{' is never closed; write {{ for a brace"


def _word_or_number(kind: str, value: str, at: int) -> Token:
    end = at + len(value)
    if kind == "number":
        if not value.isascii() or len(value) > 64:
            raise _Wrong(at, f"{value[:20]!r} is no number")
        return Token("INT" if value.isdigit() else "FLOAT", value, at, end)
    if not value.isidentifier():
        raise _Wrong(at, f"{value[:20]!r} is no name")
    return Token(value.upper() if value in RESERVED else "NAME", value, at, end)


def _contextual(tokens: list[Token]) -> None:
    """The words that are no names because of the line they stand in."""
    first = tokens[0].value
    if tokens[0].type != "NAME" and tokens[0].type not in ("IF", "ELSE", "FOR"):
        return
    if not isinstance(first, str) or first not in STATEMENTS:
        return
    tokens[0].type = first.upper()
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.type in ("LPAR", "LSQB", "LBRACE")) - (
            token.type in ("RPAR", "RSQB", "RBRACE")
        )
        if depth == 0 and at and token.type == "NAME" and token.value in WITHIN.get(first, ()):
            if token.value == "gen" and at > 1:
                continue
            token.type = str(token.value).upper()

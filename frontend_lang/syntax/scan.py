"""Characters to tokens: lines and their indentation, words, numbers, strings with their holes.

One pass, linear in the source; how deep it nests is limited. A line with a mistake is marked and
the others go on, so that all mistakes of a source are found in one go.
"""

import re

from ramet.errors import SourceError
from ramet.limits import Limits
from ramet.syntax.nesting import Nesting
from ramet.syntax.source import Source
from ramet.syntax.tokens import MARKS, Hole, Line, Scanned, StringToken, Token
from ramet.syntax.words import contextual, number, word

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


class _Unclosed(Exception):
    """A bracket or a text without an end: where the line is left, and where the next begins."""

    def __init__(self, at: int, message: str, resume: int) -> None:
        self.at = at
        self.message = message
        self.resume = resume


def scan(source: Source, limits: Limits) -> Scanned:
    """The logical lines of the source; its mistakes are noted there.

    Raises:
        LimitError: it is too long, nests too deeply, or has too many statements.
        SourceError: it is no text, or has too many mistakes.
    """
    _check_characters(source, limits)
    return _Scanner(source, limits).scan()


def _check_characters(source: Source, limits: Limits) -> None:
    text, most = source.text, limits.source_bytes
    if len(text) > most:
        limits.hold("source_bytes", len(text), source.cut(most + 1).span(most))
    if (foreign := _FOREIGN.search(text)) is not None:
        source.mistake(source.span(foreign.start()), _says(foreign.group()))
        source.check()
    if (size := len(text.encode())) > most:
        limits.hold("source_bytes", size, source.span(len(text) - 1))


def _says(character: str) -> str:
    match character:
        case "\r":
            return (
                "the line ends in CR LF; save the file with LF ends, "
                "since a prompt must not depend on the editor"
            )
        case "\ufeff":
            return "the source begins with a byte order mark; save it as UTF-8 without one"
        case _:
            return f"the character U+{ord(character):04X} cannot stand in a program"


class _Scanner:
    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.text = source.text
        self.limits = limits
        self.nesting = Nesting(source, limits)
        self.at = 0
        self.told = -1  # the end of the line in which the last mistake was

    def scan(self) -> Scanned:
        found = Scanned()
        lead: list[str] = []
        gap = False
        while self.at < len(self.text):
            indent = self._indentation()
            end = self.source.end_of_line(self.at)
            if self.at == end:
                if lead:
                    lead += [""] if lead[-1] else []
                else:
                    gap = True
                self.at = end + 1
            elif self.text[self.at] == "#":
                lead.append(self.text[self.at : end].rstrip())
                self.at = end + 1
            else:
                self.limits.hold("statements", len(found.lines) + 1, self.source.span(self.at))
                found.lines.append(self._line(indent, lead, gap))
                lead, gap = [], False
        found.tail = (*[""][: bool(gap and lead and found.lines)], *lead)
        if found.tail and not found.tail[-1]:
            found.tail = found.tail[:-1]
        return found

    def _mistake(self, at: int, message: str) -> None:
        """Note a mistake: one for each line of the source."""
        self.line.broken = True
        if at > self.told:
            self.told = self.source.end_of_line(at)
            self.source.mistake(self.source.span(at), message)

    # -- a line

    def _indentation(self) -> int:
        begin = self.at
        self.at = _BLANKS.match(self.text, begin).end()  # pyright: ignore[reportOptionalMemberAccess]
        return len(self.text[begin : self.at].expandtabs(4))

    def _line(self, indent: int, lead: list[str], gap: bool) -> Line:
        """The tokens up to the line's end, and the comment behind them."""
        begin = self.at
        self.nesting.line(indent, begin)
        self.line = Line(begin, indent, self.nesting.blocks, lead=tuple(lead), gap=gap)
        if "\t" in self.text[self.text.rfind("\n", 0, begin) + 1 : begin]:
            self._mistake(begin, "a line is indented with blanks, not with tabs")
        try:
            self._tokens(self.line.tokens, None)
        except _Unclosed as unclosed:
            self._mistake(unclosed.at, unclosed.message)
            self.at = unclosed.resume
        contextual(self.line.tokens)
        return self.line

    def _tokens(self, tokens: list[Token], hole: int | None) -> None:
        """Tokens to the end of the line, or of the hole that was opened there."""
        open_brackets: list[tuple[str, int]] = []
        while self.at < len(self.text):
            found = _TOKEN.match(self.text, self.at)
            if found is None:
                self._mistake(self.at, f"{self.text[self.at]!r} cannot stand here")
                self.at += 1
                continue
            kind, begin, value = found.lastgroup, self.at, found.group()
            if kind == "newline":
                if hole is not None:
                    raise self._open_hole(hole)
                if not open_brackets:
                    self.at = found.end()
                    return
                self._check_bracket_goes_on(open_brackets[-1][1])
            elif kind == "comment":
                self._comment(begin, value.rstrip(), bool(open_brackets), hole)
            elif kind == "string":
                tokens.append(self._string(value))
                continue
            elif kind == "mark":
                if value == "}" and hole is not None and not open_brackets:
                    return
                self._mark(value, open_brackets, tokens)
            elif kind == "word":
                self._word(word(value, begin), tokens)
            elif kind == "number":
                self._word(number(value, begin), tokens)
            self.at = found.end()
        if hole is not None:
            raise self._open_hole(hole)
        if open_brackets:
            mark, at = open_brackets[-1]
            raise _Unclosed(at, f"{mark!r} is never closed", len(self.text))

    def _comment(self, at: int, comment: str, in_bracket: bool, hole: int | None) -> None:
        if hole is not None:
            self._mistake(at, "a comment cannot stand inside the braces of a text")
        elif in_bracket:
            self.line.lead += (comment,)
        else:
            self.line.tail = comment

    def _word(self, token: Token | str, tokens: list[Token]) -> None:
        if isinstance(token, str):
            self._mistake(self.at, token)
        else:
            self.nesting.token(token.type, str(token.value), self.at)
            tokens.append(token)

    def _mark(self, mark: str, open_brackets: list[tuple[str, int]], tokens: list[Token]) -> None:
        token = Token(MARKS[mark], mark, self.at, self.at + len(mark))
        if mark in _CLOSERS:
            index = mark == "[" and bool(tokens) and tokens[-1].type in _VALUE_ENDS
            self.nesting.open(self.at, index)
            open_brackets.append((mark, self.at))
        elif mark in ")]}" and not self._closes(mark, open_brackets):
            return
        else:
            self.nesting.token(token.type, mark, self.at)
        tokens.append(token)

    def _closes(self, mark: str, open_brackets: list[tuple[str, int]]) -> bool:
        if not open_brackets:
            self._mistake(self.at, f"{mark!r} closes nothing")
            return False
        opened, _ = open_brackets[-1]
        if _CLOSERS[opened] != mark:
            self._mistake(
                self.at, f"{mark!r} closes {opened!r}; {_CLOSERS[opened]!r} is needed"
            )
        while open_brackets:
            self.nesting.close()
            opened, _ = open_brackets.pop()
            if _CLOSERS[opened] == mark or not any(_CLOSERS[o] == mark for o, _ in open_brackets):
                break
        return True

    def _check_bracket_goes_on(self, opened: int) -> None:
        """A line that begins a statement, no further right: the bracket was forgotten."""
        begins = _BEGINS.match(self.text, self.at + 1)
        if begins is not None and len(begins.group(1)) <= self.line.indent:
            raise _Unclosed(opened, f"{self.text[opened]!r} is never closed", self.at + 1)

    def _open_hole(self, at: int) -> _Unclosed:
        return _Unclosed(
            at,
            "the '{' is never closed; write {{ for a brace",
            self.source.end_of_line(at) + 1,
        )

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

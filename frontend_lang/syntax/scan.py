"""Characters to tokens: lines and their indentation, words, numbers, strings with their holes.

One pass, linear in the source; how deep it nests is limited. A line with a mistake is marked and
the others go on, so that all mistakes of a source are found in one go.
"""

import re

from ramet.limits import Limits
from ramet.syntax.characters import check_characters
from ramet.syntax.nesting import Nesting
from ramet.syntax.source import Source
from ramet.syntax.tokens import MARKS, Hole, Line, Scanned, StringToken, Token
from ramet.syntax.words import contextual, number, word

_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_MARK = "|".join(re.escape(mark) for mark in MARKS)
_TOKEN = re.compile(
    rf"""[ \t]*+(?:
    (?P<comment>\#[^\n]*)
    | (?P<newline>\n)
    | (?P<string>r?(?:\"\"\"|'''|"|'))
    | (?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)
    | (?P<word>[^\W\d]\w*)
    | (?P<mark>{_MARK})
    | (?P<unknown>.)
    | (?P<end>\Z))""",
    re.VERBOSE,
)
_BLANKS = re.compile(r"[ \t]*+")
_EMPTY_LINES = re.compile(r"(?:[ \t]*+\n)++")
_COMMENT_LINES = re.compile(r"(?:[ \t]*+(?:#[^\n]*+)?\n)*+")
_COMMENTS = re.compile(r"#[^\n]*(?<!\s)")
_UNKNOWN = re.compile(rf"""(?:(?!{_MARK})[^\w\s"'#])*+""")
_SAME = re.compile(r"(.)\1*+")
_VALUE_ENDS = ("NAME", "STRING", "RPAR", "RSQB", "RBRACE")
# Begins a statement, and can hardly begin a line inside brackets.
_BEGINS = re.compile(
    r"( *)(?:assistant|call|elif|extend|fork|gen|keep|let|program|return|score|select|system|user"
    r"|while)\b"
)
_BEGINS_ANYTHING = re.compile(r"( *)[^\s#)\]}]")
_PLAIN = {
    mark * count: re.compile(rf"[^{mark}\\{{}}{end}]+")
    for mark in "\"'"
    for count, end in ((1, r"\n"), (3, ""))
}
_SIMPLE_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", "'": "'", '"': '"', "\n": "",
}  # fmt: skip
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}
_HEX = re.compile("[0-9a-fA-F]{0,8}")
_INSTEAD = {
    "&": "; write 'and'",
    "|": "; write 'or'",
    "!": "; write 'not'",
    ";": "; a line takes one statement",
    "\u201c": '; a text stands between " and "',
    "\u2018": '; a text stands between " and "',
    "`": '; a text stands between " and "',
}
_OPEN_HOLE = "the '{' is never closed; write {{ for a brace"


def scan(source: Source, limits: Limits) -> Scanned:
    """The logical lines of the source; its mistakes are noted there.

    Raises:
        LimitError: it is too long, nests too deeply, or has too many statements.
        SourceError: it is no text, or has too many mistakes.
    """
    check_characters(source, limits)
    return _Scanner(source, limits).scan()


class _Scanner:
    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.text = source.text
        self.limits = limits
        self.nesting = Nesting(source, limits)
        self.at = 0
        self.hole: int | None = None  # where the one begins that is being read
        self.told = -1  # the end of the line in which the last mistake was

    def scan(self) -> Scanned:
        found = Scanned()
        lead: list[str] = []
        gap = False
        while self.at < len(self.text):
            if (empty := _EMPTY_LINES.match(self.text, self.at)) is not None:
                self.at = empty.end()
                gap = gap or not lead
                lead += [""] if lead else []
            begin = self.at
            self.at = _matched(_BLANKS, self.text, begin)
            if self.text.startswith("#", self.at):
                end = self.source.end_of_line(self.at)
                lead.append(self.text[self.at : end].rstrip())
                self.at = end + 1
            elif self.at < len(self.text):
                if len(found.lines) == self.limits.statements:
                    self.limits.hold("statements", len(found.lines) + 1, self.source.span(self.at))
                self._line(self.text[begin : self.at], lead, gap)
                found.lines.append(self.line)
                lead, gap = [], False
        if lead and not lead[-1]:
            lead.pop()
        found.tail = ("", *lead) if gap and lead and found.lines else tuple(lead)
        return found

    def _mistake(self, at: int, message: str) -> None:
        """Note a mistake: one for each line of the source."""
        self.line.broken = True
        if at > self.told:
            self.told = self.source.end_of_line(at)
            self.source.mistake(self.source.span(at), message)

    # -- a line

    def _line(self, blanks: str, lead: list[str], gap: bool) -> None:
        """The tokens up to the line's end, and the comment behind them."""
        indent = len(blanks.expandtabs(4))
        self.nesting.line(indent, self.at)
        line = self.line = Line(self.at, indent, self.nesting.blocks, lead=lead, gap=gap)
        if "\t" in blanks:
            self._mistake(line.at, "a line is indented with blanks, not with tabs")
        self._tokens(line.tokens, None)
        self.at += 1
        contextual(line.tokens)

    def _tokens(self, tokens: list[Token], hole: int | None) -> None:
        """Tokens to the end of the line, or of the hole that was opened there."""
        open_brackets: list[tuple[str, int]] = []
        while self.at < len(self.text):
            found = _TOKEN.match(self.text, self.at)
            assert found is not None, "it has any character, and the end"
            kind = str(found.lastgroup)
            value, begin = found[kind], found.start(kind)
            self.at = begin
            if kind == "newline":
                if hole is not None or not open_brackets or not self._goes_on():
                    break
                continue
            if kind == "string":
                tokens.append(self._string(value))
                self.nesting.token("STRING", "", begin)
                continue
            if kind == "mark":
                if value == "}" and hole is not None and not open_brackets:
                    return
                if value in ")]}" and not open_brackets:
                    self._mistake(begin, f"{value!r} closes nothing")
                    self.at = _matched(_SAME, self.text, begin)
                    continue
                self._mark(value, open_brackets, tokens)
            elif kind == "word":
                self._word(word(value, begin), tokens)
            elif kind == "number":
                self._word(number(value, begin), tokens)
            elif kind == "unknown":
                instead = _INSTEAD.get(value, "")
                self._mistake(begin, f"{value!r} cannot stand here{instead}")
                self.at = _matched(_UNKNOWN, self.text, begin + 1)
                continue
            elif kind == "comment":
                self._comment(value.rstrip(), bool(open_brackets), hole)
            self.at = found.end()
        if hole is not None:
            self._mistake(hole, _OPEN_HOLE)
        elif open_brackets:
            mark, at = open_brackets[-1]
            self._mistake(at, f"{mark!r} is never closed")
        for _ in open_brackets:
            self.nesting.close()

    def _goes_on(self) -> bool:
        """Whether the logical line does, behind this line end in brackets.

        One was forgotten if a statement begins there, no further right than the line itself.
        """
        end = _matched(_COMMENT_LINES, self.text, self.at + 1)
        begins = (_BEGINS_ANYTHING if self.line.broken else _BEGINS).match(self.text, end)
        if begins is not None and len(begins.group(1)) <= self.line.indent:
            return False
        self.line.lead += _COMMENTS.findall(self.text, self.at + 1, end)
        self.at = end
        return True

    def _comment(self, comment: str, in_bracket: bool, hole: int | None) -> None:
        if hole is not None:
            self._mistake(self.at, "a comment cannot stand inside the braces of a text")
        elif in_bracket:
            self.line.lead.append(comment)
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
        else:
            if mark in ")]}":
                self._close(mark, open_brackets)
            self.nesting.token(token.type, mark, self.at)
        tokens.append(token)

    def _close(self, mark: str, open_brackets: list[tuple[str, int]]) -> None:
        """The bracket that it closes, and those in it that were not closed."""
        opened, _ = open_brackets[-1]
        if _CLOSERS[opened] != mark:
            self._mistake(self.at, f"{mark!r} closes {opened!r}; {_CLOSERS[opened]!r} is needed")
        while open_brackets:
            self.nesting.close()
            opened, _ = open_brackets.pop()
            if _CLOSERS[opened] == mark or not any(_CLOSERS[o] == mark for o, _ in open_brackets):
                break

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
        most = len(self.text) if len(quotes) == 3 else self.source.end_of_line(self.at)
        closed = 0 <= end < most
        text = self.text[self.at : end if closed else most]
        self.at += len(text) + len(quotes) * closed
        if not closed:
            self._unclosed(begin, quotes)
        return [text] if text else []

    def _parts(self, begin: int, quotes: str) -> list[str | Hole]:
        parts: list[str | Hole] = []
        texts: list[str] = []
        plain, triple = _PLAIN[quotes], len(quotes) == 3
        while True:
            if found := plain.match(self.text, self.at):
                texts.append(found.group())
                self.at = found.end()
            if self.text.startswith(quotes, self.at):
                self.at += len(quotes)
                break
            if self.at >= len(self.text) or (self.text[self.at] == "\n" and not triple):
                self._unclosed(begin, quotes)
                break
            if self.text.startswith("{", self.at) and not self.text.startswith("{{", self.at):
                if texts:
                    parts.append("".join(texts))
                    texts = []
                parts.append(self._hole())
            else:
                texts.append(self._character())
        return [*parts, "".join(texts)] if texts else parts

    def _unclosed(self, begin: int, quotes: str) -> None:
        """In a hole it is most likely the quote that ends the text around it."""
        if self.hole is not None:
            self._mistake(self.hole, _OPEN_HOLE)
        else:
            self._mistake(begin, f"the text is never closed; {quotes} is needed")

    def _hole(self) -> Hole:
        hole, outer = Hole([], self.at), self.hole
        self.hole = hole.at
        self.nesting.open(hole.at)
        self.at += 1
        self._tokens(hole.tokens, hole.at)
        if not hole.tokens:
            self._mistake(hole.at, "nothing stands between the braces; write {{}} for two braces")
        if self.text.startswith("}", self.at):
            self.at += 1
        self.hole = outer
        self.nesting.close()
        self.line.holes.append(hole)
        return hole

    def _character(self) -> str:
        """A quote or a line end inside a triple string, an escape, or a doubled brace."""
        begin, character = self.at, self.text[self.at]
        self.at += 1
        if character == "\\":
            return self._escape(begin)
        if character in "{}":
            if self.text.startswith(character, self.at):
                self.at += 1
            else:
                self._mistake(begin, "a single '}' in a text; write }} for a brace")
        return character

    def _escape(self, begin: int) -> str:
        letter = self.text[self.at : self.at + 1]
        if letter and letter in _SIMPLE_ESCAPES:
            self.at += 1
            return _SIMPLE_ESCAPES[letter]
        if not letter or letter not in _HEX_ESCAPES:
            self._mistake(begin, f"no escape '\\{letter}'; write \\\\ for a backslash")
            return ""
        length = _HEX_ESCAPES[letter]
        digits = _matched(_HEX, self.text, self.at + 1) - self.at - 1
        code = int(self.text[self.at + 1 : self.at + 1 + length], 16) if digits >= length else -1
        if not 0 <= code < 0x110000 or 0xD800 <= code < 0xE000:
            escape = self.text[begin : self.at + 1 + min(digits, length)]
            needs = f"; {length} digits of 0-9 and a-f are needed" if digits < length else ""
            self._mistake(begin, f"{escape} is no character{needs}")
            return ""
        self.at += 1 + length
        return chr(code)


def _matched(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where a pattern that matches anywhere ends."""
    found = pattern.match(text, at)
    assert found is not None, "it takes nothing, too"
    return found.end()

"""Expressions and texts as a program spells them, each in one way.

A spelling is a row of pieces; a line may end between two of them, which is where a comma stands in
brackets, and nowhere in a text.
"""

import re

from ramet.syntax import tree
from ramet.syntax.tokens import RESERVED
from ramet.syntax.tree import Expr, Setting, Template

_ANY, _OR, _AND, _NOT, _COMPARED, _SUM, _TERM, _SIGN, _ACCESS, _ATOM = range(10)
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "{": "{{", "}": "}}"}
_LITERALS = {"True": "true", "False": "false", "None": "none"}


class Spelling:
    """Takes expressions one after the other; `pieces` is what they came to."""

    def __init__(self, quote: str = '"') -> None:
        self.pieces = [""]
        self._quote = quote
        self._holes = 0

    def write(self, text: str) -> None:
        self.pieces[-1] += text

    def separate(self) -> None:
        """A comma between two things in brackets."""
        self.write(",")
        if self._holes:
            self.write(" ")
        else:
            self.pieces.append("")

    def expr(self, expr: Expr, least: int = _ANY) -> None:
        """The expression; in parentheses if it binds less than `least`."""
        if _level(expr) < least:
            self.write("(")
            self.expr(expr)
            self.write(")")
            return
        match expr:
            case tree.Literal(value):
                self.write(_LITERALS.get(repr(value)) or repr(value))
            case Template():
                self._template(expr)
            case tree.Name(id):
                self.write(id)
            case tree.Attribute(of, name):
                self.expr(of, _ACCESS)
                self.write(f".{name}")
            case tree.Index(of, key):
                self.expr(of, _ACCESS)
                self.write("[")
                self.expr(key)
                self.write("]")
            case tree.Slice():
                self._slice(expr)
            case tree.ListOf(items):
                self.within("[", items, "]")
            case tree.MapOf():
                self._map(expr)
            case tree.Comprehension():
                self._comprehension(expr)
            case tree.Function(name, arguments, named):
                self.write(name)
                self.within("(", (*arguments, *named), ")")
            case tree.Signed(sign, of):
                self.write(sign)
                self.expr(of, _SIGN)
            case tree.Not(of):
                self.write("not ")
                self.expr(of, _NOT)
            case tree.Chain(first, rest) | tree.Comparison(first, rest):
                inner = _level(expr) + 1
                self.expr(first, inner)
                for operator, operand in rest:
                    self.write(f" {operator} ")
                    self.expr(operand, inner)
            case tree.Logic(word, items):
                self.expr(items[0], _level(expr) + 1)
                for item in items[1:]:
                    self.write(f" {word} ")
                    self.expr(item, _level(expr) + 1)
            case tree.Choice(then, condition, otherwise):
                self.expr(then, _OR)
                self.write(" if ")
                self.expr(condition, _OR)
                self.write(" else ")
                self.expr(otherwise)

    def within(self, opening: str, items: "tuple[Expr | Setting, ...]", closing: str) -> None:
        """Items in brackets, settings with their names."""
        self.write(opening)
        for at, item in enumerate(items):
            if at:
                self.separate()
            if isinstance(item, Setting):
                self.write(f"{item.name}=")
                self.expr(item.value)
            else:
                self.expr(item)
        self.write(closing)

    def _slice(self, expr: tree.Slice) -> None:
        self.expr(expr.of, _ACCESS)
        self.write("[")
        if expr.start is not None:
            self.expr(expr.start)
        self.write(":")
        if expr.stop is not None:
            self.expr(expr.stop)
        if expr.step is not None:
            self.write(":")
            self.expr(expr.step)
        self.write("]")

    def _map(self, expr: tree.MapOf) -> None:
        """Either all keys are in quotes or none: as they were written, if that is possible."""
        quoted = expr.quoted or not all(_is_name(key) for key, _ in expr.items)
        self.write("{")
        for at, (key, value) in enumerate(expr.items):
            if at:
                self.separate()
            if quoted:
                self._text(Template((key,)))
            else:
                self.write(key)
            if quoted or value != tree.Name(key):
                self.write(": ")
                self.expr(value)
        self.write("}")

    def _comprehension(self, expr: tree.Comprehension) -> None:
        self.write("[")
        self.expr(expr.item)
        self.write(f" for {', '.join(expr.targets)} in ")
        self.expr(expr.source, _OR)
        if expr.condition is not None:
            self.write(" if ")
            self.expr(expr.condition, _OR)
        self.write("]")

    # -- texts

    def _template(self, text: Template) -> None:
        if text.raw and (quotes := self._raw_quotes(text)):
            self.write(f"r{quotes}{''.join(map(str, text.parts))}{quotes}")
        else:
            self._text(text)

    def _raw_quotes(self, text: Template) -> str:
        """What a raw text can be written between; nothing if it cannot be."""
        content = "".join(part for part in text.parts if isinstance(part, str))
        quotes = self._quote * (3 if text.triple else 1)
        holes = any(not isinstance(part, str) for part in text.parts)
        ends = f"{content}{quotes}".find(quotes) < len(content)
        lines = "\n" in content and not text.triple
        return "" if holes or ends or lines or _HIDDEN.search(content) else quotes

    def _text(self, text: Template) -> None:
        quotes = self._quote * (3 if text.triple else 1)
        self.write(quotes)
        for at, part in enumerate(text.parts):
            if isinstance(part, str):
                last = at == len(text.parts) - 1
                self.write(_escaped(part, self._quote, text.triple, last))
            else:
                self._hole(part)
        self.write(quotes)

    def _hole(self, expr: Expr) -> None:
        """Texts inside it have the other quotes, and no line ends inside it."""
        self._holes += 1
        self._quote = "'" if self._quote == '"' else '"'
        inner, self.pieces = self.pieces, [""]
        self.expr(expr)
        inner[-1] += f"{{{' ' * self.pieces[0].startswith('{')}{self.pieces[0]}}}"
        self.pieces = inner
        self._quote = "'" if self._quote == '"' else '"'
        self._holes -= 1


def _level(expr: Expr) -> int:
    """How tightly it holds together."""
    match expr:
        case tree.Choice():
            return _ANY
        case tree.Logic(word="or"):
            return _OR
        case tree.Logic():
            return _AND
        case tree.Not():
            return _NOT
        case tree.Comparison():
            return _COMPARED
        case tree.Chain(rest=((operator, _), *_)):
            return _SUM if operator in "+-" else _TERM
        case tree.Signed():
            return _SIGN
        case tree.Attribute() | tree.Index() | tree.Slice():
            return _ACCESS
        case _:
            return _ATOM


def _is_name(key: str) -> bool:
    return key.isidentifier() and key not in RESERVED


def _escaped(text: str, quote: str, triple: bool, last: bool) -> str:
    """The text without its quotes; what cannot be seen, or cannot stand there, is escaped."""
    escapes = dict(_ESCAPES)
    if triple:
        del escapes["\n"]
    else:
        escapes[quote] = f"\\{quote}"
    found = "".join(escapes.get(c) or _HIDDEN.sub(_hex, c) for c in text)
    if triple:
        found = re.sub(f"{quote}(?={quote}{quote})", f"\\\\{quote}", found)
        if last and found.endswith(quote):
            found = f"{found[:-1]}\\{quote}"
    return found


def _hex(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

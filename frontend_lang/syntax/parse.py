"""Lines to statements: each line is parsed on its own, so that one mistake hides no other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, cast

from lark import Lark
from lark.exceptions import UnexpectedToken, VisitError
from lark.lexer import Lexer

from ramet.errors import near_miss
from ramet.limits import Limits
from ramet.syntax import tree
from ramet.syntax.build import Builder, Mistake
from ramet.syntax.expected import expected
from ramet.syntax.source import Source
from ramet.syntax.tokens import STATEMENTS, Hole, Line, Token
from ramet.syntax.tree import Expr, Statement, Trivia


class _Tokens(Lexer):
    """Hands the parser the tokens that are there already."""

    def __init__(self, conf: object) -> None: ...

    def lex(self, data: Any) -> Iterator[Any]:
        return iter(data)


@cache
def _grammar() -> Lark:
    text = files("ramet.syntax").joinpath("grammar.lark").read_text()
    return Lark(text, parser="lalr", lexer=_Tokens, start=["line", "expr"], maybe_placeholders=True)


@dataclass(slots=True)
class Read:
    """A line as a statement, without the block that may hang on it."""

    indent: int
    statement: Statement


class Reader:
    """Parses one line at a time; its mistakes are noted at the source."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._builder = Builder(source, self._hole)

    def read(self, line: Line) -> Read:
        """The statement that the line is; `Broken` if there is a mistake in it."""
        span = self._builder.line = self._source.span(line.tokens[0].start_pos)
        try:
            self._check_beginning(line.tokens[0])
            statement = cast("Statement", self._parse(line.tokens, "line"))
            self._check_depth(statement)
            trivia = Trivia(line.lead, line.tail, line.gap)
            return Read(line.indent, replace(statement, trivia=trivia))
        except Mistake as mistake:
            self._source.mistake(mistake.span, mistake.message)
            names = [str(token.value) for token in line.tokens if token.type == "NAME"]
            return Read(line.indent, tree.Broken(tuple(names), span=span))

    def _hole(self, hole: Hole) -> Expr:
        return cast("Expr", self._parse(hole.tokens, "expr", hole))

    def _parse(self, tokens: Sequence[Token], start: str, hole: Hole | None = None) -> object:
        try:
            parsed = _grammar().parse(cast("Any", tokens), start=start)
        except UnexpectedToken as error:
            found = cast("Token", error.token)
            at_end = found.type == "$END"
            message = expected(error.accepts, None if at_end else found, tokens, hole is not None)
            at = tokens[-1].end_pos if at_end else found.start_pos
            raise Mistake(self._source.span(at), message) from None
        try:
            return self._builder.transform(parsed)
        except VisitError as error:
            raise error.orig_exc from None

    def _check_beginning(self, first: Token) -> None:
        if first.type == "STRING" or str(first.value) in STATEMENTS:
            return
        span = self._source.span(first.start_pos)
        word = str(first.value)
        hint = _HINTS.get(word) or near_miss(word, STATEMENTS)
        raise Mistake(span, f"no statement begins with {word!r}{hint}")

    def _check_depth(self, statement: Statement) -> None:
        for node, depth in tree.walk(statement):
            if depth > self._limits.nesting:
                self._limits.hold("nesting", depth, node.span)


_HINTS = {
    "def": "; write `program name(...):`",
    "import": "; a program has nothing to import",
    "print": "; a text on a line of its own is appended",
    "set": "; write `let name = ...`",
    "var": "; write `let name = ...`",
    "prompt": "; a text on a line of its own is appended",
    "break": "; put the condition into the while, or into an if around the rest",
    "continue": "; put the rest of the block into an if",
    "pass": "; a block needs something to do",
}

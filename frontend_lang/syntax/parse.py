"""Lines to statements: each line is parsed on its own, so that one mistake hides no other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, cast

from lark import Lark
from lark.exceptions import UnexpectedToken, VisitError
from lark.lexer import Lexer

from ramet.errors import Span
from ramet.limits import Limits
from ramet.syntax import tree
from ramet.syntax.build import Builder, Mistake
from ramet.syntax.expected import expected, no_statement
from ramet.syntax.source import Source
from ramet.syntax.tokens import STATEMENTS, Hole, Line, Token
from ramet.syntax.tree import Statement, Trivia


class _Tokens(Lexer):
    """Hands the parser the tokens that are there already."""

    def __init__(self, conf: object) -> None: ...

    def lex(self, data: Any) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return iter(data)


@cache
def _grammar() -> Lark:
    text = files("ramet.syntax").joinpath("grammar.lark").read_text("utf-8")
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
        self._builder = Builder(source)

    def read(self, line: Line) -> Read:
        """The statement that the line is; `Broken` if there is a mistake in it."""
        span = self._source.span(line.at)
        trivia = Trivia(tuple(line.lead), line.tail, line.gap)
        statement = None if line.broken else self._statement(line, span)
        if statement is None:
            names = [str(token.value) for token in line.tokens if token.type == "NAME"]
            return Read(line.indent, tree.Broken(tuple(names), span=span))
        self._check_depth(statement, line.depth)
        return Read(line.indent, replace(statement, trivia=trivia))

    def _statement(self, line: Line, span: Span) -> Statement | None:
        """None if there are mistakes: one in each hole, and one outside of them."""
        self._builder.begin(span)
        before = len(self._source.diagnostics)
        for hole in line.holes:
            self._note_mistake(self._hole, hole)
        statement = self._note_mistake(self._whole, line.tokens)
        return statement if len(self._source.diagnostics) == before else None

    def _note_mistake(self, read: Callable[..., Any], *of: object) -> Any:
        try:
            return read(*of)
        except Mistake as mistake:
            self._source.mistake(mistake.span, mistake.message)
            return None

    def _whole(self, tokens: Sequence[Token]) -> Statement:
        self._check_beginning(tokens)
        return self._parse(tokens, "line")

    def _hole(self, hole: Hole) -> None:
        self._builder.holes[hole.at] = tree.Literal(None)
        self._builder.holes[hole.at] = self._parse(hole.tokens, "expr", in_hole=True)

    def _parse(self, tokens: Sequence[Token], start: str, *, in_hole: bool = False) -> Any:
        try:
            parsed = _grammar().parse(cast("Any", tokens), start=start)
        except UnexpectedToken as error:
            found = cast("Token", error.token)
            at_end = found.type == "$END"
            message = expected(error.accepts, None if at_end else found, tokens, in_hole)
            at = tokens[-1].end_pos if at_end else found.start_pos
            raise Mistake(self._source.span(at), message) from None
        try:
            return self._builder.transform(parsed)
        except VisitError as error:
            raise error.orig_exc from None

    def _check_beginning(self, tokens: Sequence[Token]) -> None:
        first, word = tokens[0], str(tokens[0].value)
        if first.type == "STRING" or word in STATEMENTS:
            return
        span = self._source.span(first.start_pos)
        raise Mistake(span, no_statement(word, tokens[1].type if len(tokens) > 1 else None))

    def _check_depth(self, statement: Statement, blocks: int) -> None:
        for node, depth in tree.walk(statement, blocks):
            self._limits.hold("nesting", depth, node.span)

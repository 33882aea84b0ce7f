"""Syntax trees of every shape, drawn at random: whatever a parser can make, and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from ramet.nodes import ROLES
from ramet.syntax import tree
from ramet.syntax.tree import Block, Expr, Module, Statement, Trivia

# Names; some of them are none in some lines.
WORDS = "a b answer é of as from limit gen let user program select True x1 _ str range e5".split()
CHARACTERS = 'ab \n\t\r""\'\\{}#é\0\x1b\x85\u2028\ufeff😀'
OPERATORS = (("+", "-"), ("*", "/", "//", "%"))
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")


class Trees:
    """Draws from a source of chance: `random.Random`, or one that can be made smaller."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def _one(self, of: Any) -> Any:
        return of[self._random.randrange(len(of))]

    def _chance(self, percent: int) -> bool:
        return self._random.randrange(100) >= 100 - percent

    def _some(self, make: Callable[[], Any], least: int = 0, most: int = 3) -> tuple[Any, ...]:
        return tuple(make() for _ in range(self._random.randint(least, most)))

    def name(self, *taken: str) -> str:
        return self._one([word for word in WORDS if word not in taken])

    def names(self, least: int, *taken: str) -> tuple[str, ...]:
        free = [word for word in WORDS if word not in taken]
        return tuple(self._random.sample(free, self._random.randint(least, 3)))

    def text(self) -> str:
        return "".join(self._one(CHARACTERS) for _ in range(self._random.randint(1, 6)))

    # -- expressions

    def expr(self, depth: int = 3) -> Expr:
        if depth == 0 or self._chance(35):
            return self.leaf()
        inner = depth - 1
        return self._one(_LARGER)(self, lambda: self.expr(inner))

    def leaf(self) -> Expr:
        if self._chance(60):
            return tree.Name(self.name())
        number = self._random.choice([0, 1, 10**63, 0.0, 0.1, 1e22, 5e-324, 1e-7, 1.5])
        return tree.Literal(self._one([number, True, False, None]))

    def template(self, inner: Callable[[], Expr]) -> tree.Template:
        parts: list[Any] = []
        for part in self._some(lambda: inner() if self._chance(40) else self.text()):
            if isinstance(part, str) and parts and isinstance(parts[-1], str):
                parts[-1] += part
            else:
                parts.append(part)
        return tree.Template(tuple(parts), self._chance(30), self._chance(30))

    def attribute(self, inner: Callable[[], Expr]) -> Expr:
        return tree.Attribute(inner(), self.name())

    def index(self, inner: Callable[[], Expr]) -> Expr:
        return tree.Index(inner(), inner())

    def slice(self, inner: Callable[[], Expr]) -> Expr:
        bounds = [inner() if self._chance(60) else None for _ in range(3)]
        return tree.Slice(inner(), *bounds)

    def list(self, inner: Callable[[], Expr]) -> Expr:
        return tree.ListOf(self._some(inner))

    def map(self, inner: Callable[[], Expr]) -> Expr:
        found: dict[str, Expr] = {}
        for _ in range(self._random.randint(0, 3)):
            key = self.name() if self._chance(70) else self.text()
            short = self._chance(40) and key in WORDS
            found[key] = tree.Name(key) if short else inner()
        return tree.MapOf(tuple(found.items()), self._chance(50))

    def comprehension(self, inner: Callable[[], Expr]) -> Expr:
        condition = inner() if self._chance(50) else None
        return tree.Comprehension(inner(), self.names(1), inner(), condition)

    def function(self, inner: Callable[[], Expr]) -> Expr:
        return tree.Function(self.name(), self._some(inner), self.settings(inner))

    def signed(self, inner: Callable[[], Expr]) -> Expr:
        return tree.Signed(self._one("+-"), inner())

    def negated(self, inner: Callable[[], Expr]) -> Expr:
        return tree.Not(inner())

    def chain(self, inner: Callable[[], Expr]) -> Expr:
        operators = self._one(OPERATORS)
        return tree.Chain(inner(), self._some(lambda: (self._one(operators), inner()), 1))

    def comparison(self, inner: Callable[[], Expr]) -> Expr:
        return tree.Comparison(inner(), self._some(lambda: (self._one(COMPARISONS), inner()), 1))

    def logic(self, inner: Callable[[], Expr]) -> Expr:
        return tree.Logic(self._one(("and", "or")), self._some(inner, 2))

    def choice(self, inner: Callable[[], Expr]) -> Expr:
        return tree.Choice(inner(), inner(), inner())

    def settings(self, inner: Callable[[], Expr]) -> tuple[tree.Setting, ...]:
        return tuple(tree.Setting(name, inner()) for name in self.names(0))

    # -- statements

    def trivia(self) -> Trivia:
        if self._chance(60):
            return Trivia()
        tail = self._comment() if self._chance(50) else ""
        return Trivia(self._lead(), tail, self._chance(50))

    def _comment(self) -> str:
        return self._one(("#", "# a", "#  # é", '# "', "# {", "#:("))

    def _lead(self) -> tuple[str, ...]:
        found: list[str] = []
        for _ in range(self._random.randint(0, 2)):
            found += [self._comment(), ""] if self._chance(30) else [self._comment()]
        return tuple(found)

    def line(self) -> Statement:
        return replace(self._one(_LINES)(self), trivia=self.trivia())

    def text_line(self) -> Statement:
        return tree.TextLine(self.template(self.expr))

    def turn(self) -> Statement:
        return tree.Turn(self._one(ROLES), self.expr())

    def gen(self) -> tree.Gen:
        kind = None
        if self._chance(40):
            kind = tree.TypeOf(self.name("as"), self.expr() if self._chance(50) else None)
        return tree.Gen(self.name("as"), kind, self.settings(self.expr))

    def select(self) -> Statement:
        options, settings = self.expr(), self.settings(self.expr)
        if isinstance(options, tree.Function) and not options.arguments and not settings:
            options = replace(options, named=())  # with names it reads as a name with settings
        return tree.Select(self.name("from"), options, settings)

    def score(self) -> Statement:
        return tree.Score(self.name("of"), self.expr())

    def keep(self) -> Statement:
        return tree.Keep(self.expr())

    def let(self) -> Statement:
        return tree.Let(self.name(), self.expr())

    def call(self) -> Statement:
        to = self.name("as") if self._chance(50) else None
        given = self._some(self.expr), self.settings(self.expr)
        return tree.Call(self._chance(50), self.name("as"), *given, to)

    def returned(self) -> Statement:
        return tree.Return(self.expr() if self._chance(70) else None)

    def statement(self, depth: int) -> Statement:
        if depth == 0 or self._chance(60):
            return self.line()
        head = self._one(_HEADS)(self, lambda: self.block(depth - 1))
        return replace(head, trivia=self.trivia())

    def block(self, depth: int) -> Block:
        """No blank line in front of the first statement."""
        first, *others = self._some(lambda: self.statement(depth), 1)
        return replace(first, trivia=replace(first.trivia, gap=False)), *others

    def turn_block(self, body: Callable[[], Block]) -> Statement:
        return tree.Turn(self._one(ROLES), None, body())

    def fork(self, body: Callable[[], Block]) -> Statement:
        """One name with `in` reads as a comparison: so a fork over one of those is another."""
        targets, over = self.names(0, "as", "gen"), self.expr()
        if len(targets) == 1:
            targets = (self.name(),)
        if not targets and isinstance(over, tree.Comparison):
            over = over.first
        return tree.Fork(targets, over, self.name("as"), body())

    def fork_gen(self, body: Callable[[], Block]) -> Statement:
        return tree.ForkGen(self.gen(), self.name("as"), body())

    def choices(self, body: Callable[[], Block]) -> Statement:
        first = tree.Arm(self.expr(), body())
        others = self._some(lambda: tree.Arm(self.expr(), body(), trivia=self.trivia()), 0, 2)
        otherwise = tree.Otherwise(body(), trivia=self.trivia()) if self._chance(50) else None
        return tree.If((first, *others), otherwise)

    def loop(self, body: Callable[[], Block]) -> Statement:
        return tree.For(self.names(1), self.expr(), body())

    def bounded(self, body: Callable[[], Block]) -> Statement:
        return tree.While(self.expr(), self.expr(), body())

    def parameter(self, name: str) -> tree.Parameter:
        kind = self.name() if self._chance(50) else None
        return tree.Parameter(name, kind, self.expr() if self._chance(50) else None)

    def program(self, gap: bool) -> tree.Program:
        trivia = replace(self.trivia(), gap=gap)
        parameters = tuple(map(self.parameter, self.names(0)))
        return tree.Program(self.name(), parameters, self.block(2), trivia=trivia)

    def module(self) -> Module:
        tail = self._lead()
        tail = tail[:-1] if tail and not tail[-1] else tail
        count = self._random.randint(1, 3)
        programs = tuple(self.program(bool(at)) for at in range(count))
        return Module(programs, ("", *tail) if tail and self._chance(50) else tail)


_LARGER: Any = (
    Trees.template,
    Trees.attribute,
    Trees.index,
    Trees.slice,
    Trees.list,
    Trees.map,
    Trees.comprehension,
    Trees.function,
    Trees.signed,
    Trees.negated,
    Trees.chain,
    Trees.comparison,
    Trees.logic,
    Trees.choice,
)
_LINES: Any = (
    Trees.text_line,
    Trees.turn,
    Trees.gen,
    Trees.select,
    Trees.score,
    Trees.keep,
    Trees.let,
    Trees.call,
    Trees.returned,
)
_HEADS: Any = (
    Trees.turn_block,
    Trees.fork,
    Trees.fork_gen,
    Trees.choices,
    Trees.loop,
    Trees.bounded,
)


def around(module: Module) -> list[object]:
    """What equality leaves out of a tree, but a printer keeps: comments and blank lines."""
    found = [node for node, _ in tree.walk(module) if isinstance(node, Statement)]
    return [module.tail, *(statement.trivia for statement in found)]

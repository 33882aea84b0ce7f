"""The syntax tree of a program in text: frozen records with their places, nothing else.

Operators of one level are one flat node, so that a long sum is not a deep tree. Where something
was written, its comments and how its texts were quoted are no part of what it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, TypeAlias

from ramet.errors import Span
from ramet.nodes import Role

NOWHERE = Span("", 0, 0)


@dataclass(frozen=True, slots=True)
class Tree:
    """What all nodes have."""

    span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


# -- expressions


@dataclass(frozen=True, slots=True)
class Expression(Tree):
    """What all expressions have."""


@dataclass(frozen=True, slots=True)
class Literal(Expression):
    """A number, true, false or none."""

    value: float | None


@dataclass(frozen=True, slots=True)
class Template(Expression):
    """A text, with expressions in it."""

    parts: "tuple[str | Expr, ...]"
    raw: bool = field(default=False, compare=False, repr=False)
    triple: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Name(Expression):
    id: str


@dataclass(frozen=True, slots=True)
class Attribute(Expression):
    of: "Expr"
    name: str


@dataclass(frozen=True, slots=True)
class Index(Expression):
    of: "Expr"
    key: "Expr"


@dataclass(frozen=True, slots=True)
class Slice(Expression):
    of: "Expr"
    start: "Expr | None"
    stop: "Expr | None"
    step: "Expr | None"


@dataclass(frozen=True, slots=True)
class ListOf(Expression):
    items: "tuple[Expr, ...]"


@dataclass(frozen=True, slots=True)
class MapOf(Expression):
    """`{answer}` is short for `{answer: answer}`; a key is always a text."""

    items: "tuple[tuple[str, Expr], ...]"
    quoted: bool = field(default=False, compare=False, repr=False)  # whether all keys are in quotes


@dataclass(frozen=True, slots=True)
class Comprehension(Expression):
    item: "Expr"
    targets: tuple[str, ...]
    source: "Expr"
    condition: "Expr | None"


@dataclass(frozen=True, slots=True)
class Function(Expression):
    """A function of the language, called; none takes named arguments."""

    name: str
    arguments: "tuple[Expr, ...]"
    named: "tuple[Setting, ...]" = ()


@dataclass(frozen=True, slots=True)
class Signed(Expression):
    sign: str  # "+" or "-"
    of: "Expr"


@dataclass(frozen=True, slots=True)
class Not(Expression):
    of: "Expr"


@dataclass(frozen=True, slots=True)
class Chain(Expression):
    """`a + b - c`, or `a * b / c`: from left to right."""

    first: "Expr"
    rest: "tuple[tuple[str, Expr], ...]"


@dataclass(frozen=True, slots=True)
class Comparison(Expression):
    """`a < b <= c`: each with its neighbour, as in Python."""

    first: "Expr"
    rest: "tuple[tuple[str, Expr], ...]"


@dataclass(frozen=True, slots=True)
class Logic(Expression):
    """`a and b and c`, or the same with `or`: the first operand that decides."""

    word: str
    items: "tuple[Expr, ...]"


@dataclass(frozen=True, slots=True)
class Choice(Expression):
    """`a if condition else b`."""

    then: "Expr"
    condition: "Expr"
    otherwise: "Expr"


Expr: TypeAlias = (
    Literal
    | Template
    | Name
    | Attribute
    | Index
    | Slice
    | ListOf
    | MapOf
    | Comprehension
    | Function
    | Signed
    | Not
    | Chain
    | Comparison
    | Logic
    | Choice
)


# -- statements


@dataclass(frozen=True, slots=True)
class Trivia:
    """What stands around a statement and means nothing."""

    lead: tuple[str, ...] = ()  # comments; a blank line between them is an empty string
    tail: str = ""
    gap: bool = False  # a blank line before


@dataclass(frozen=True, slots=True)
class Statement(Tree):
    trivia: Trivia = field(default=Trivia(), compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Setting(Tree):
    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class TypeOf(Tree):
    """`int`, or `regex("...")`."""

    name: str
    argument: Expr | None = None


@dataclass(frozen=True, slots=True)
class TextLine(Statement):
    text: Template


@dataclass(frozen=True, slots=True)
class Turn(Statement):
    """A whole turn of the chat, or the head of one with a block."""

    role: Role
    content: Expr | None
    body: "Block" = ()


@dataclass(frozen=True, slots=True)
class Gen(Statement):
    name: str
    type: TypeOf | None = None
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True)
class Select(Statement):
    name: str
    options: Expr
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True)
class Score(Statement):
    name: str
    of: Expr


@dataclass(frozen=True, slots=True)
class Fork(Statement):
    """Branches for a number or the items of a list; `targets` names the item."""

    targets: tuple[str, ...]
    over: Expr
    group: str
    body: "Block" = ()


@dataclass(frozen=True, slots=True)
class ForkGen(Statement):
    """A branch for every sample, or every beam."""

    gen: Gen
    group: str
    body: "Block" = ()


@dataclass(frozen=True, slots=True)
class Keep(Statement):
    branch: Expr


@dataclass(frozen=True, slots=True)
class Let(Statement):
    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Arm(Statement):
    """`if` or `elif` with its block."""

    condition: Expr
    body: "Block" = ()


@dataclass(frozen=True, slots=True)
class Otherwise(Statement):
    """`else` with its block."""

    body: "Block" = ()


@dataclass(frozen=True, slots=True)
class If(Statement):
    arms: tuple[Arm, ...]
    otherwise: Otherwise | None = None


@dataclass(frozen=True, slots=True)
class For(Statement):
    targets: tuple[str, ...]
    over: Expr
    body: "Block" = ()


@dataclass(frozen=True, slots=True)
class While(Statement):
    condition: Expr
    limit: Expr
    body: "Block" = ()


@dataclass(frozen=True, slots=True)
class Call(Statement):
    """`call`: on a fresh state; `extend`: on this one."""

    fresh: bool
    program: str
    arguments: tuple[Expr, ...] = ()
    named: tuple[Setting, ...] = ()
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Return(Statement):
    value: Expr | None = None


@dataclass(frozen=True, slots=True)
class Broken(Statement):
    """A line with a mistake in it, which is told elsewhere; it may bind any of these names."""

    names: tuple[str, ...]
    body: "Block" = ()


Block: TypeAlias = tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Parameter(Tree):
    name: str
    type: str | None = None
    default: Expr | None = None


@dataclass(frozen=True, slots=True)
class Program(Statement):
    name: str
    parameters: tuple[Parameter, ...] = ()
    body: Block = ()


@dataclass(frozen=True, slots=True)
class Module:
    """A source: its programs, the last one the entry."""

    programs: tuple[Program, ...]
    tail: tuple[str, ...] = field(default=(), compare=False, repr=False)  # comments at the end


def children(tree: Any) -> Iterator[Tree]:
    """The nodes right under a node."""
    for name in _holding(type(tree)):
        found: list[Any] = [getattr(tree, name)]
        for item in found:
            if isinstance(item, Tree):
                yield item
            elif isinstance(item, tuple):
                found += item


@cache
def _holding(kind: type[Any]) -> tuple[str, ...]:
    """The fields in which nodes of that kind may have others."""
    return tuple(each.name for each in fields(kind) if each.name not in ("span", "trivia"))


def walk(tree: Any, depth: int = 0) -> Iterator[tuple[Tree, int]]:
    """Every node under and with this one, and in how many expressions it stands.

    Without recursion; `depth` is that of the node itself.
    """
    left = [(tree, depth)]
    while left:
        node, depth = left.pop()
        yield node, depth
        inner = depth + isinstance(node, Expression)
        left += [(child, inner) for child in children(node)]

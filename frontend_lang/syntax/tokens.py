"""Tokens and logical lines: what the scanner makes and the parser reads."""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(slots=True)
class Token:
    """A word, number, mark or string, with its offsets in the source.

    `type` is the terminal of the grammar. The other names are what lark asks of a token.
    """

    type: str
    value: "str | StringToken"
    start_pos: int
    end_pos: int

    line: ClassVar[None] = None
    column: ClassVar[None] = None
    end_line: ClassVar[None] = None
    end_column: ClassVar[None] = None


@dataclass(slots=True)
class StringToken:
    """A string literal: its texts, unescaped, and the holes between them."""

    parts: "list[str | Hole]"
    raw: bool
    triple: bool


@dataclass(slots=True)
class Hole:
    """The tokens of an expression in a string, and the offset of its opening brace."""

    tokens: list[Token]
    at: int


@dataclass(slots=True)
class Line:
    """A logical line: it ends where no bracket and no string is open.

    Comments are with their `#`; the blank lines between those in `lead` are empty strings.
    """

    at: int  # where its first token begins
    indent: int  # blanks before it
    depth: int = 0  # blocks around it
    tokens: list[Token] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)  # of all its texts, the inner ones first
    lead: list[str] = field(default_factory=list)  # comments before it, and inside brackets
    tail: str = ""  # the comment behind it
    gap: bool = False  # whether a blank line comes before it, or before its comments
    broken: bool = False  # whether a mistake was found in it


@dataclass(slots=True)
class Scanned:
    """A source as lines; `tail` is the comments after the last."""

    lines: list[Line] = field(default_factory=list)
    tail: tuple[str, ...] = ()


STATEMENTS = (
    "assistant",
    "call",
    "elif",
    "else",
    "extend",
    "for",
    "fork",
    "gen",
    "if",
    "keep",
    "let",
    "program",
    "return",
    "score",
    "select",
    "system",
    "user",
    "while",
)
"""The words that a line can begin with."""

RESERVED = ("and", "else", "false", "for", "if", "in", "none", "not", "or", "true")
"""The words that are no names, wherever they stand."""

WITHIN = {
    "call": ("as",),
    "extend": ("as",),
    "fork": ("as", "gen"),
    "score": ("of",),
    "select": ("from",),
    "while": ("limit",),
}
"""The words that are none in a line that begins with that word, outside of brackets."""

MARKS = {
    "==": "EQ",
    "!=": "NE",
    "<=": "LE",
    ">=": "GE",
    "//": "FLOOR",
    "+": "PLUS",
    "-": "MINUS",
    "*": "STAR",
    "/": "SLASH",
    "%": "PERCENT",
    "<": "LESSTHAN",
    ">": "MORETHAN",
    "=": "EQUAL",
    ".": "DOT",
    ",": "COMMA",
    ":": "COLON",
    "(": "LPAR",
    ")": "RPAR",
    "[": "LSQB",
    "]": "RSQB",
    "{": "LBRACE",
    "}": "RBRACE",
}
"""Every mark with its terminal."""

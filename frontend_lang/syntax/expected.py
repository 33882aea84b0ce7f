"""The sentence for a token where the grammar has no place for it."""

from collections.abc import Collection, Sequence
from itertools import pairwise

from ramet.syntax.tokens import MARKS, StringToken, Token

_SPELLED = {terminal: f"'{mark}'" for mark, terminal in MARKS.items()} | {
    "AS": "'as'",
    "ELSE": "'else'",
    "FROM": "'from'",
    "IN": "'in'",
    "LIMIT": "'limit'",
    "NAME": "a name",
    "OF": "'of'",
    "STRING": "a text",
}
_EXPRESSION = frozenset(("NAME", "INT", "STRING", "LSQB", "LPAR"))
_OPERATORS = frozenset(
    "AND OR NOT IF IN EQ NE LE GE LESSTHAN MORETHAN PLUS MINUS STAR SLASH FLOOR PERCENT DOT "
    "LSQB".split()
)
_CONDITIONS = ("IF", "ELIF", "WHILE")


def expected(
    accepts: Collection[str], found: Token | None, tokens: Sequence[Token], in_hole: bool
) -> str:
    """What was expected instead of `found`, or, if it is None, of the end of the tokens."""
    if found is not None and (special := _special(accepts, found, tokens, in_hole)) is not None:
        return special
    wanted = _wanted(accepts)
    here = _here(found, in_hole)
    return f"{wanted} is expected, not {here}" if wanted else f"{here} cannot stand here"


def _wanted(accepts: Collection[str]) -> str:
    """What can stand here, the likeliest alone: operators are left out where anything else can."""
    names = set(accepts)
    said: list[str] = []
    if names >= _EXPRESSION:
        said.append("an expression")
        names -= _EXPRESSION | {"FLOAT", "TRUE", "FALSE", "NONE", "LBRACE", "NOT", "PLUS", "MINUS"}
    names -= _OPERATORS
    at_end = "$END" in names
    said += sorted(_SPELLED[name] for name in names if name in _SPELLED)
    if at_end:
        said.append("the end of the line")
    return " or ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def _here(found: Token | None, in_hole: bool) -> str:
    if found is None:
        return "'}'" if in_hole else "the end of the line"
    if isinstance(found.value, StringToken):
        return "a text"
    return repr(found.value)


def _special(
    accepts: Collection[str], found: Token, tokens: Sequence[Token], in_hole: bool
) -> str | None:
    before = next((b for b, after in pairwise(tokens) if after is found), None)
    match found.type:
        case "EQUAL" if tokens[0].type in _CONDITIONS:
            return "'=' binds a name; write '==' to compare"
        case "COLON" if in_hole:
            return "a text takes no format; round(...) or another function shapes the value"
        case "STRING" if before is not None and before.value in ("f", "b", "u"):
            return f"no prefix {before.value!r} is needed: every text has {{...}} filled in"
        case "STAR" if before is not None and before.type == "STAR":
            return "there is no power; multiply"
        case "STRING" if before is not None and before.type == "STRING":
            return "two texts in a row; join them with '+'"
        case "NAME" if "AND" in accepts and found.value in ("is", "xor"):
            return f"there is no {found.value!r}; write '==' or '!='"
        case _:
            return None

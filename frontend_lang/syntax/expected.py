"""The sentences for a token where the grammar has no place for it."""

from collections.abc import Collection, Sequence

from ramet.errors import near_miss
from ramet.syntax.tokens import MARKS, STATEMENTS, StringToken, Token

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
    if "PLUS" in names:
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
    at = next((at for at, token in enumerate(tokens) if token is found), 0)
    before = tokens[at - 1] if at else None
    first = tokens[0].type
    match found.type, before.type if before is not None else None:
        case "EQUAL", _ if first in _CONDITIONS:
            return "'=' binds a name; write '==' to compare"
        case "COLON", "STRING" if in_hole and before is tokens[0]:
            return "a text with braces of its own, such as JSON, has them doubled: write {{ and }}"
        case "COLON", _ if in_hole:
            return "a text takes no format; round(...) or another function shapes the value"
        case "STRING", "NAME" if before is not None and before.value in _PREFIXES:
            return _no_prefix(before.value)
        case "DOT", _ if "INT" in accepts and at + 1 < len(tokens) and tokens[at + 1].type == "INT":
            return f"a number begins with a digit; write 0.{tokens[at + 1].value}"
        case "STAR", "STAR":
            return "there is no power; multiply"
        case (("STRING" | "PLUS"), "STRING") if first == "STRING" and not in_hole:
            return "a line takes one text; write {...} in it for a value"
        case "STRING", "STRING":
            return "two texts in a row; join them with '+'"
        case "LPAR", "NAME" if at > 1 and tokens[at - 2].type == "DOT":
            return (
                f"there are no methods; a function takes the value: {before and before.value}(...)"
            )
        case "COMMA", _ if first == "RETURN" and "$END" in accepts:
            return "a program returns one value; write [a, b] or {a, b}"
        case "NAME", _ if "AND" in accepts and found.value in ("is", "xor"):
            return f"there is no {found.value!r}; write '==' or '!='"
        case _:
            return None


def no_statement(word: str, after: str | None) -> str:
    """For a line that begins with that word, and goes on with a token of that type."""
    if after == "STRING" and word in _PREFIXES:
        return _no_prefix(word)
    hint = _HINTS.get(word) or near_miss(word, STATEMENTS)
    if not hint and word.isidentifier():
        hint = {"EQUAL": f"; write `let {word} = ...`", "LPAR": f"; write `call {word}(...)`"}.get(
            after or "", ""
        )
    return f"no statement begins with {word!r}{hint}"


def _no_prefix(prefix: object) -> str:
    return f"no prefix {prefix!r} is needed: every text has {{...}} filled in"


_PREFIXES = ("f", "F", "b", "u", "rf", "fr")
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

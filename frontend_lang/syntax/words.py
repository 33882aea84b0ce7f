"""Words and numbers as tokens; a word can be a name in one line and none in another."""

from ramet.syntax.tokens import RESERVED, STATEMENTS, WITHIN, Token

_OPENING = ("LPAR", "LSQB", "LBRACE")
_CLOSING = ("RPAR", "RSQB", "RBRACE")
_LONGEST = 100


def word(value: str, at: int) -> Token | str:
    """A name or a reserved word; or, as a string, why it is neither."""
    if len(value) > _LONGEST:
        return f"a word of more than {_LONGEST} characters"
    if not value.isidentifier():
        return f"{value!r} is no name"
    return Token(value.upper() if value in RESERVED else "NAME", value, at, at + len(value))


def number(value: str, at: int) -> Token | str:
    """A number; or, as a string, why it is none."""
    if len(value) > _LONGEST:
        return f"a number of more than {_LONGEST} characters"
    if not value.isascii():
        return f"{value!r} is no number; write it with the digits 0 to 9"
    return Token("INT" if value.isdigit() else "FLOAT", value, at, at + len(value))


def contextual(tokens: list[Token]) -> None:
    """Give the words their own type that are no names because of the line they stand in."""
    if not tokens or tokens[0].type not in ("NAME", "IF", "ELSE", "FOR"):
        return
    first = str(tokens[0].value)
    if first not in STATEMENTS:
        return
    tokens[0].type = first.upper()
    within = WITHIN.get(first, ())
    depth = 0
    for at, token in enumerate(tokens[1:] if within else (), 1):
        depth += (token.type in _OPENING) - (token.type in _CLOSING)
        taken = token.type == "NAME" and token.value in within
        if depth == 0 and taken and (token.value != "gen" or at == 1):
            token.type = str(token.value).upper()

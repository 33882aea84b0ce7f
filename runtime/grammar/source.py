"""A type as the grammar engine's input, and what the engine says of a wrong one in words.

Knows no tokens.
"""

import json
import re
from typing import NoReturn

from llguidance import regex_to_lark

from ramet.errors import shown
from ramet.runtime.errors import GrammarError
from ramet.runtime.grammar.schema import prepared
from ramet.types import Type, TypeKind

# At most 18 digits: what the program reads fits 64 bits, and no model can go on for ever.
PATTERNS: dict[TypeKind, str] = {
    "int": r"0|-?[1-9][0-9]{0,17}",
    "float": r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?",
    "bool": r"[Tt]rue|[Ff]alse",
}

TOO_COMPLEX = re.compile(r"too (many|complex|large)|precomputation|limit exceeded", re.IGNORECASE)
_LONGEST_LINE = 100
_PLACE = re.compile(r"^(?:at )?(\d+)\((\d+)\): ")
_PATTERN_ERROR = re.compile(r"regex parse error:\n(.*)\nerror: (.*)", re.DOTALL)
_CARET = re.compile(r"^    ( *)\^+$", re.MULTILINE)


def engine_source(type: Type) -> str:
    """What the engine compiles; `GrammarError` for a schema that allows nothing."""
    match type.kind:
        case "regex":
            if (len(type.source) - len(type.source.rstrip("\\"))) % 2:
                refuse(type, "it ends in a backslash")
            return _pattern(type.source)
        case "grammar":
            return _listed("lark_grammar", type.source)
        case "json":
            return _schema(type)
        case "choice":
            return _choices(type)
        case _:
            return _pattern(PATTERNS[type.kind])


def behind(text: str, source: str) -> str:
    """What the engine compiles for that text, and behind it what it compiles for the source."""
    (alone,) = json.loads(source)["grammars"]
    start = {"lark_grammar": f"start: {json.dumps(text)} @behind"}
    return json.dumps({"grammars": [start, {"name": "behind", **alone}]})


def refuse(type: Type, said: str) -> NoReturn:
    """Raise `GrammarError` with what the engine said of the type, and where."""
    raise GrammarError(type.kind, type.source, reason_of(type, said))


def reason_of(type: Type, said: str) -> str:
    """What is wrong and where, without the engine's own pictures and its frame of a pattern."""
    place = _PLACE.match(said)
    said = said[place.end() :] if place else said
    found = _PATTERN_ERROR.search(said)
    if found:
        caret = None if r"\d" in type.source else _CARET.search(found[1])  # \d is longer there
        where = f" at character {len(caret[1]) + 1}" if caret else ""
        reason = found[2].splitlines()[0] + where
    else:
        said = said.rpartition("(in regex): ")[2]
        reason = said.strip().partition("\n")[0]
        if TOO_COMPLEX.search(reason):
            reason = f"it is too complex ({reason.partition(';')[0]})"
    reason = reason if len(reason) <= 4 * _LONGEST_LINE else reason[: 4 * _LONGEST_LINE] + "…"
    if place and type.kind == "grammar":
        line, column = int(place[1]), int(place[2])
        return f"line {line}, column {column}: {reason}{_picture(type.source, line, column)}"
    return reason if type.kind == "grammar" else f"{shown(type.source)}: {reason}"


def _picture(source: str, line: int, column: int) -> str:
    lines = source.split("\n")
    if not 1 <= line <= len(lines) or len(lines[line - 1]) > _LONGEST_LINE:
        return ""
    return f"\n    {lines[line - 1]}\n    {' ' * (column - 1)}^"


def _schema(type: Type) -> str:
    schema = json.loads(type.source)
    if schema is False:
        refuse(type, "the schema false allows no text")
    try:
        return _listed("json_schema", prepared({} if schema is True else schema))
    except RecursionError:
        refuse(type, "it is nested too deeply")


def _choices(type: Type) -> str:
    """One terminal of them all: as rules, 2,000 would be too many for the engine's parser."""
    options = " | ".join(map(json.dumps, type.choices()))
    return _listed("lark_grammar", f"start: CHOICE\nCHOICE: {options}")


def _pattern(regex: str) -> str:
    """`\\d` is 0 to 9 in it: of Unicode's other digits, the engine knows more than Python."""
    return _listed("lark_grammar", f"start: /{regex_to_lark(regex, 'd')}/")


def _listed(key: str, value: object) -> str:
    """One grammar as a list of them, so that no text is taken for another format."""
    return json.dumps({"grammars": [{key: value}]})

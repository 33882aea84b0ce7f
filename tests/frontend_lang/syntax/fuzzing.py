"""Sources and graphs with mistakes made at random, and what has to hold for every one of them."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from ramet import from_json, to_json
from ramet.errors import LanguageError, LimitError
from ramet.syntax.blocks import parse
from ramet.syntax.check import check
from ramet.syntax.load import programs_of
from ramet.syntax.printer import print_module
from ramet.syntax.source import Source
from ramet.syntax.tokens import MARKS, RESERVED, STATEMENTS
from tests.frontend_lang.graphs import graphs
from tests.frontend_lang.syntax.trees import Trees

SIX = (Path(__file__).parent / "six.ramet").read_text()
TOKEN = re.compile(r"\s+|\w+|.", re.DOTALL)
PIECES = (
    *MARKS, *RESERVED, *STATEMENTS, "as", "of", "from", "limit", '"', '"""', "'", "r'", "{", "}",
    "{{", "}}", "\\", "\\n", "\\x", "\\u00e9", "\n", "\n    ", "\n        ", "\t", "  ", "#", "0",
    "1.5", "1e9", "9" * 70, "é", "\0", "\r\n", "\ud800", "\ufeff", "int", "json({})", "label", "n",
)  # fmt: skip


def check_source(text: str) -> bool:
    """Whether it is a program; then it must be printed as one that reads as the same tree."""
    try:
        module = parse(text)
    except LanguageError as error:
        return _said(error)
    printed = print_module(module)
    try:
        again = parse(printed)
    except LimitError:
        return True  # the canonical form may be longer
    assert again == module
    assert repr(again) == repr(module)
    assert print_module(again) == printed
    source = Source(text, "p")
    try:
        check(module, source)
        source.check()
        programs_of(module)
    except LanguageError as error:
        _said(error)
    return True


def _said(error: LanguageError) -> bool:
    assert str(error)
    return False


def check_graph(text: str) -> bool:
    """Whether it is a graph; then it must be the same after another round."""
    try:
        graph = from_json(text)
    except LanguageError as error:
        return _said(error)
    assert from_json(to_json(graph)) == graph
    return True


# -- seeds


def sources(count: int) -> list[str]:
    """The six programs, each alone, and others that were made up."""
    programs = re.split(r"\n(?=program)", SIX)
    return [SIX, *programs, *(print_module(Trees(Random(n)).module()) for n in range(count))]


def graph_texts(count: int) -> list[str]:
    found: list[str] = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(graphs())
    def collect(graph: Any) -> None:
        found.append(to_json(graph))

    collect()
    return found


# -- mutations


def mutated_source(random: Random, text: str, others: Sequence[str]) -> str:
    """The text with one to four mistakes: in its words, its lines, or its indentation."""
    for _ in range(random.randint(1, 4)):
        text = random.choice(_MUTATIONS)(random, text, random.choice(others))
    return text[:20_000]


def _words(random: Random, text: str, other: str) -> str:
    tokens = TOKEN.findall(text) or [""]
    at = random.randrange(len(tokens))
    match random.randrange(5):
        case 0:
            tokens[at] = ""
        case 1:
            tokens[at] = random.choice(PIECES)
        case 2:
            tokens.insert(at, random.choice(PIECES))
        case 3:
            tokens[at] *= random.choice((2, 3, 80))
        case _:
            to = random.randrange(len(tokens))
            tokens[at], tokens[to] = tokens[to], tokens[at]
    return "".join(tokens)


def _lines(random: Random, text: str, other: str) -> str:
    lines = text.split("\n")
    at = random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, random.choice(other.split("\n")))
        case 2:
            lines[at] = " " * random.choice((0, 1, 3, 4, 8, 12)) + lines[at].lstrip()
        case 3:
            to = random.randrange(len(lines))
            lines[at], lines[to] = lines[to], lines[at]
        case _:
            lines[at:at] = lines[at : at + random.randint(1, 5)]
    return "\n".join(lines)


def _cut(random: Random, text: str, other: str) -> str:
    """The beginning of one, the end of another."""
    return text[: random.randint(0, len(text))] + other[random.randint(0, len(other)) :]


def _character(random: Random, text: str, other: str) -> str:
    at = random.randint(0, len(text))
    code = random.choice((random.randrange(128), random.randrange(0x110000)))
    return text[:at] + chr(code) + text[at + random.randrange(2) :]


_MUTATIONS: Sequence[Callable[[Random, str, str], str]] = (_words, _words, _lines, _cut, _character)


def mutated_graph(random: Random, text: str, others: Sequence[str]) -> str:
    """The JSON with one to three values changed; sometimes what is no JSON any more."""
    if random.random() < 0.2:
        return mutated_source(random, text, others)
    value = json.loads(text)
    if not isinstance(value, dict | list):
        return mutated_source(random, text, others)
    for _ in range(random.randint(1, 3)):
        _change(random, value, json.loads(random.choice(others)))
    return json.dumps(value)


def _change(random: Random, value: Any, other: Any) -> None:
    places = list(_places(value))
    if not places:
        return
    holder, key = random.choice(places)
    there = holder[key]
    match random.randrange(6):
        case 0:
            del holder[key]
        case 1:
            source, where = random.choice(list(_places(other)))
            holder[key] = source[where]
        case 2 if isinstance(there, int | float) and abs(there) < 2**99:
            holder[key] = there + random.choice((-1, 1, 2**31, 2**63, 0.5))
        case 3 if isinstance(holder, dict):
            holder[random.choice(("kind", "state", "nodes", "params", "x", ""))] = there
        case 4 if isinstance(holder, list):
            holder.insert(random.randint(0, len(holder)), there)
        case _:
            strange = (None, True, -1, 0, 1e308, "", "\ud800", [], {}, [[]], "a" * 999, 2**70)
            holder[key] = random.choice(strange)


def _places(value: Any) -> Any:
    left = [value]
    while left:
        holder = left.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            yield holder, key
            if isinstance(holder[key], dict | list):
                left.append(holder[key])

"""A corpus of faulty programs: what a person sees for each, to the letter.

`faulty/*.txt` has them: a name, a source, and what is said. `⇥ ␀ ␍ ☒ ⟪BOM⟫` stand for a tab, NUL,
CR, a lone surrogate and a byte order mark; `[nesting=3]` behind a name sets a limit.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramet.errors import LimitError, SourceError
from ramet.limits import Limits
from ramet.syntax import scan
from ramet.syntax.load import checked

FAULTY = Path(__file__).parent / "faulty"
SYNTAX = Path(scan.__file__).parent
STANDS_FOR = {"⇥": "\t", "␀": "\0", "␍": "\r", "☒": "\ud800", "⟪BOM⟫": "\ufeff"}


def cases() -> dict[str, tuple[str, str]]:
    """The sources and what is said of them, by name."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(FAULTY.glob("*.txt")):
        for case in re.split("^=== ", path.read_text(), flags=re.MULTILINE)[1:]:
            name, rest = case.split("\n", 1)
            source, said = rest.split("---\n")
            assert name not in found, name
            found[name] = source, said
    return found


CASES = cases()


def real(text: str) -> str:
    for sign, character in STANDS_FOR.items():
        text = text.replace(sign, character)
    return text


@pytest.mark.parametrize("name", CASES)
def test_what_is_said(name: str) -> None:
    source, said = CASES[name]
    limit = re.search(r"\[(\w+)=(\d+)\]$", name)
    limits = Limits(**({limit[1]: int(limit[2])} if limit else {}))
    with pytest.raises((SourceError, LimitError)) as caught:
        checked(real(source), file="p", limits=limits)
    assert f"{caught.value}\n" == real(said)


def test_there_are_enough() -> None:
    assert len(CASES) >= 80


def test_the_caret_is_where_the_place_is() -> None:
    for source, said in (map(real, case) for case in CASES.values()):
        for line, column, shown, caret in re.findall(
            r"^p:(\d+):(\d+): .*\n    (.*)\n    ( *)\^$", said, re.MULTILINE
        ):
            written = source.split("\n")[int(line) - 1]
            blanks = len(written) - len(written.lstrip())
            assert len(caret) + blanks + 1 == int(column)
            assert len(caret) <= len(shown)


# -- every message that the code can say is in the corpus

SAYING = {"_mistake", "mistake", "Mistake", "_wrong"}
SPOKEN_BY = {"_says", "word", "number", "no_statement", "_no_prefix", "_special"}
ELSEWHERE = {  # in test_parse.py and test_hostile.py
    "{} mistakes so far; the rest of the source was not looked at",
    "{} cannot stand here",
}


def messages() -> Iterator[str]:
    """The sentences in the code, `{}` for what is filled in."""
    for path in sorted(SYNTAX.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _name(node.func) in SAYING and len(node.args) > 1:
                yield from _spelled(node.args[1])
            elif isinstance(node, ast.FunctionDef) and node.name in SPOKEN_BY:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return) and inner.value is not None:
                        yield from _spelled(inner.value)
            elif isinstance(node, ast.Assign) and _name(node.targets[0]) in ("message", "last"):
                yield from _spelled(node.value)
            elif isinstance(node, ast.Assign) and _name(node.targets[0]) in ("_HINTS", "_INSTEAD"):
                assert isinstance(node.value, ast.Dict)
                for value in node.value.values:
                    yield from _spelled(value)


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _spelled(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(str(text)):
            yield text
        case ast.JoinedStr(parts):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts)
        case ast.IfExp(_, body, orelse):
            yield from _spelled(body)
            yield from _spelled(orelse)
        case _:
            pass


def test_the_messages_are_found() -> None:
    found = set(messages())
    assert len(found) > 80
    assert "{} is never closed" in found
    assert "unknown variable {}{}" in found
    assert "; write 'and'" in found


@pytest.mark.parametrize("message", sorted({*messages()} - ELSEWHERE))
def test_every_message_is_in_the_corpus(message: str) -> None:
    pattern = ".*".join(map(re.escape, message.split("{}")))
    assert any(re.search(pattern, said) for _, said in CASES.values())

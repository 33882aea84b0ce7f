"""The examples of docs/cli.md say what the command line says, `...` standing for anything."""

import re
import shlex
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest

from tests.runtime.cli import ramet

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
FILES = re.findall(r"`([\w.]+)`:\n\n```\n(.*?)```", DOCS, re.DOTALL)
EXAMPLES = re.findall(r"^\$ (.*)\n((?:(?!\$ |```).*\n)*)", DOCS, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: some examples write what later ones read."""
    folder = tmp_path_factory.mktemp("docs")
    for name, text in FILES:
        (folder / name).write_text(text)
    return folder


def test_files_and_examples_are_found() -> None:
    names = {"tips.ramet", "wrong.ramet", "messy.ramet", "classify.ramet", "reviews.jsonl"}
    assert {name for name, _ in FILES} == names
    assert {command.split()[1] for command, _ in EXAMPLES} == {
        *("check", "fmt", "graph", "plan", "run", "models")
    }
    assert DOCS.count("\n$ ") == len(EXAMPLES)


@pytest.mark.parametrize(("command", "told"), EXAMPLES, ids=[each[0] for each in EXAMPLES])
def test_an_example(command: str, told: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    line, semicolon, _ = command.partition("; echo $?")
    _, *words = shlex.split(line)
    result = ramet(*words)
    found = "\n".join(row.rstrip() for row in result.output.splitlines())
    found = f"{found}\n" if found else ""
    found += f"{result.exit_code}\n" if semicolon else ""
    assert semicolon or result.exit_code == 0
    assert OutputChecker().check_output(told, found, ELLIPSIS), f"\n{found}"

"""What tests of the command line share: files of programs, and a way to call it."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from ramet.runtime.cli.app import app

TIPS = """\
program one(a: str):
    "{a}"
    gen x(max_tokens=4, ignore_eos=true)

program tips(topic: str, n: int = 2):
    "Tips about {topic}."
    fork i in range(n) as tips:
        "Tip {i + 1}:"
        gen tip(max_tokens=6, ignore_eos=true)
    "In short,"
    gen summary(max_tokens=8, ignore_eos=true)
    select mood from [" good", " bad"]
    score fit of " indeed"
    return {summary, mood}
"""

WRONG = """\
program p(a: str):
    "{b}"
    gen x(max_tokns=4)
    return y
"""

PYTHON = """\
import ramet


@ramet.program
def other(s: ramet.State, q: str):
    s += q


@ramet.program
def ask(s: ramet.State, q: str, n: int = 4):
    s += q
    s += ramet.gen("a", max_tokens=n, ignore_eos=True)
    if n == 3:
        {}["x"]
    return s["a"]
"""


def ramet(
    *words: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None
) -> Result:
    """Call the command line in this process. A traceback would be an exception of its own here."""
    settings = {"COLUMNS": "200", "NO_COLOR": None, **(env or {})}
    result = CliRunner().invoke(app, words, input=stdin, env=settings, prog_name="ramet")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def data(result: Result) -> Any:
    """The one JSON value on its stdout."""
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def write(folder: Path, **files: str) -> None:
    """Files by stem: `tips_ramet` is `tips.ramet`."""
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(text)

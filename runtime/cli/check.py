"""`ramet check`: all mistakes of all files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer

from ramet.errors import GraphError, LanguageError, RametError, SourceError
from ramet.limits import Limits
from ramet.runtime.cli.exits import WRONG, marked, message
from ramet.runtime.cli.files import STDIN, check_file, programs_of, shown_name
from ramet.runtime.cli.terminal import out, print_json


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake; line and column count from one, where they are known."""

    message: str
    shown: str  # with its place, its line and a caret
    line: int | None = None
    column: int | None = None


def check(files: Sequence[str], *, as_json: bool) -> None:
    """Check every file; exits with 1 if any has a mistake."""
    for file in files:
        if file != STDIN:
            check_file(file, "FILE")
    console = out()
    rows: list[dict[str, Any]] = []
    wrong = False
    for file in files:
        programs, mistakes = _check(file)
        wrong = wrong or bool(mistakes)
        if as_json:
            found = [{"line": m.line, "column": m.column, "message": m.message} for m in mistakes]
            rows.append({"file": shown_name(file), "programs": programs, "mistakes": found})
            continue
        for mistake in mistakes:
            console.print(marked(mistake.shown), soft_wrap=True)
        if not mistakes:
            many = f"{len(programs)} program{'' if len(programs) == 1 else 's'}"
            console.print(f"{shown_name(file)}: ok: {many}", soft_wrap=True)
    if as_json:
        print_json(rows)
    if wrong:
        raise typer.Exit(WRONG)


def _check(file: str) -> tuple[list[str], list[Mistake]]:
    try:
        return [*programs_of(file, Limits())], []
    except RametError as error:
        return [], [*_mistakes(error)]


def _mistakes(error: RametError) -> list[Mistake]:
    match error:
        case SourceError(diagnostics=diagnostics):
            return [
                Mistake(each.message, str(each), each.span.line, each.span.column)
                for each in diagnostics
            ]
        case GraphError(breaks=breaks) if breaks:
            return [Mistake(each.sentence, f"{error.message}") for each in breaks]
        case LanguageError(span=span) if span is not None:
            return [Mistake(error.message, str(error), span.line, span.column)]
        case _:
            return [Mistake(str(error), message(error))]

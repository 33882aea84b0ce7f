"""From the FILE of a command to programs: text, a Python module, or the JSON of a request graph."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import typer

from ramet.codec import from_json
from ramet.errors import GraphError, LanguageError, near_miss
from ramet.graph import Graph
from ramet.limits import Limits
from ramet.program import Program
from ramet.runtime.cli.python_files import programs_in

AnyProgram: TypeAlias = Program[..., Any] | Graph
STDIN = "-"
STDIN_NAME = "<stdin>"


def program_of(file: str, name: str | None, limits: Limits) -> AnyProgram:
    """The program of that name in a file, or its last one."""
    programs = programs_of(file, limits)
    if name is None:
        return [*programs.values()][-1]
    if name not in programs:
        hint = near_miss(name, programs) or f"; it has {', '.join(programs)}"
        raise typer.BadParameter(
            f"{shown_name(file)} has no program {name!r}{hint}", param_hint="--program"
        )
    return programs[name]


def programs_of(file: str, limits: Limits) -> Mapping[str, AnyProgram]:
    """Every program of a file by name, in its order; at least one.

    Raises:
        SourceError, LimitError: the text of a program is wrong, or too much.
        GraphError: the JSON is no legal request graph.
        ProgramFailed: the Python of a module is wrong.
    """
    match kind_of(file):
        case "python":
            check_file(file, "FILE")
            return programs_in(file)
        case "graph":
            return _graph_in(file)
        case _:
            from ramet.syntax.load import library  # with the parser, which not every command needs

            return library(read_text(file, "FILE"), file=shown_name(file), limits=limits)


def kind_of(file: str) -> str:
    """What a file holds, by its name: `python`, `graph`, or else the `text` of programs."""
    return {".py": "python", ".json": "graph"}.get(Path(file).suffix, "text")


def shown_name(file: str) -> str:
    """What errors call the file."""
    return STDIN_NAME if file == STDIN else file


def read_text(file: str, option: str) -> str:
    """The text of a file or of stdin, without a byte order mark.

    A usage error if there is no such file; `LanguageError` if it is no UTF-8.
    """
    if file == STDIN:
        data = sys.stdin.buffer.read()
    else:
        check_file(file, option)
        data = Path(file).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LanguageError(
            f"{shown_name(file)} is no UTF-8 text: byte {error.start} is wrong"
        ) from None


def check_file(file: str, option: str) -> None:
    """A usage error, with a file of a similar name, unless there is such a file."""
    path = Path(file)
    if path.is_dir():
        _wrong(option, f"{file} is a directory")
    if not path.exists():
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        _wrong(option, f"no file {file}{near_miss(path.name, beside)}")


def _graph_in(file: str) -> dict[str, AnyProgram]:
    try:
        graph = from_json(read_text(file, "FILE"))
    except GraphError as error:
        raise GraphError(f"{file}: {error.message}", breaks=error.breaks) from None
    return {graph.name: graph}


def _wrong(option: str, what: str) -> NoReturn:
    raise typer.BadParameter(what, param_hint=option)

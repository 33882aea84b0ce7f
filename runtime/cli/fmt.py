"""`ramet fmt`: programs in text in their canonical form."""

import difflib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from ramet.errors import RametError
from ramet.runtime.cli.exits import WRONG, complain
from ramet.runtime.cli.files import STDIN, check_file, kind_of, read_text, shown_name
from ramet.runtime.cli.terminal import out
from ramet.syntax.blocks import parse
from ramet.syntax.printer import print_module


def fmt(files: Sequence[str], *, check: bool, diff: bool) -> None:
    """Format every file, those after one that is wrong too; exits with 1 if any is, or would
    change with `check`."""
    for file in files:
        _check_kind(file)
    failed = False
    for file in files:
        try:
            changed = _format(file, write=not check and not diff, diff=diff)
        except RametError as error:
            complain(error)
            failed = True
        else:
            failed = failed or (check and changed)
    if failed:
        raise typer.Exit(WRONG)


def _format(file: str, *, write: bool, diff: bool) -> bool:
    """Format one file; whether it changes, or would."""
    before = read_text(file, "FILE")
    after = print_module(parse(before.replace("\r\n", "\n"), shown_name(file)))
    changed = after != before
    if diff:
        _show(before, after, shown_name(file))
    elif file == STDIN and write:
        sys.stdout.write(after)
    elif not write:
        out().print(f"{shown_name(file)}: {'would change' if changed else 'ok'}", soft_wrap=True)
    elif changed:
        _replace(Path(file), after)
        out().print(f"{file}: formatted", soft_wrap=True)
    return changed


def _show(before: str, after: str, name: str) -> None:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), name, name
    )
    console = out()
    for line in lines:
        shown = line.rstrip("\n")
        console.print(shown, style=styles.get(line[0], ""), soft_wrap=True)
        if not line.endswith("\n"):
            console.print("\\ No newline at end of file")


def _replace(path: Path, text: str) -> None:
    """Write a file so that it is whole at every moment; its mode, and a link to it, stay."""
    path = path.resolve()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    work = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        work.chmod(path.stat().st_mode & 0o7777)
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise


def _check_kind(file: str) -> None:
    if file == STDIN:
        return
    check_file(file, "FILE")
    if (kind := kind_of(file)) != "text":
        what = {"python": "Python", "graph": "JSON"}[kind]
        raise typer.BadParameter(
            f"{file} is {what}; fmt writes programs in text", param_hint="FILE"
        )

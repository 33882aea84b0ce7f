"""What a shell suggests. Reads a file at most, runs none of it, and never loads the engine."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ramet.errors import RametError
from ramet.limits import Limits
from ramet.runtime.cli.arguments import signature_of
from ramet.runtime.cli.files import STDIN, kind_of
from ramet.runtime.embedded import EMBEDDED

Signatures = Mapping[str, Sequence[str]]
"""The parameters of each program of a file."""


def files(incomplete: str) -> list[str]:
    """Files that a command takes, and folders on the way to them."""
    start = Path(incomplete)
    folder = start if incomplete.endswith("/") else start.parent
    if not folder.is_dir():
        return []
    prefix = "" if folder == Path() else f"{str(folder).rstrip('/')}/"
    found = [
        f"{prefix}{each.name}{'/' if each.is_dir() else ''}"
        for each in sorted(folder.iterdir())
        if each.is_dir() or each.suffix in (".ramet", ".py", ".json")
    ]
    hidden = Path(incomplete).name.startswith(".")
    return [
        each
        for each in found
        if each.startswith(incomplete) and (hidden or not Path(each).name.startswith("."))
    ]


def programs(ctx: Any, incomplete: str) -> list[str]:
    """The programs of the FILE on the command line."""
    return [name for name in _signatures(ctx) if name.startswith(incomplete)]


def parameters(ctx: Any, incomplete: str) -> list[str]:
    """The parameters of the program, each with its `=`, but for those that are given."""
    signatures = _signatures(ctx)
    if not signatures or "=" in incomplete:
        return []
    name = ctx.params.get("name") or [*signatures][-1]
    given = {each.partition("=")[0] for each in ctx.params.get("arg") or ()}
    return [
        f"{each}="
        for each in signatures.get(name, ())
        if each.startswith(incomplete) and each not in given
    ]


def limits(incomplete: str) -> list[str]:
    """The limits that there are."""
    return [f"{each.name}=" for each in fields(Limits) if each.name.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """The models that a package brings, and files."""
    return [*(name for name in EMBEDDED if name.startswith(incomplete)), *files(incomplete)]


def _signatures(ctx: Any) -> Signatures:
    # Where the last option has no value yet, what comes before it was not told apart.
    file = ctx.params.get("file") or next(iter(ctx.args), STDIN)
    if file == STDIN:
        return {}
    try:
        return {"python": _of_python, "graph": _of_graph, "text": _of_text}[kind_of(file)](file)
    except (OSError, ValueError, SyntaxError, RecursionError, RametError):
        return {}  # a file that is wrong suggests nothing


def _of_text(file: str) -> Signatures:
    from ramet.syntax.load import library, read_source

    return {
        name: [*program.signature.parameters]
        for name, program in library(read_source(file), file=file).items()
    }


def _of_graph(file: str) -> Signatures:
    from ramet.codec import from_json

    graph = from_json(Path(file).read_text())
    return {graph.name: [*signature_of(graph).parameters]}


def _of_python(file: str) -> Signatures:
    tree = ast.parse(Path(file).read_text())
    return {
        each.name: [parameter.arg for parameter in (*each.args.args[1:], *each.args.kwonlyargs)]
        for each in tree.body
        if isinstance(each, ast.FunctionDef) and any(map(_is_program, each.decorator_list))
    }


def _is_program(decorator: ast.expr) -> bool:
    """`@program`, `@ramet.program`, with or without a call."""
    names = (n for n in ast.walk(decorator) if isinstance(n, ast.Name | ast.Attribute))
    return any("program" in (getattr(n, "id", ""), getattr(n, "attr", "")) for n in names)

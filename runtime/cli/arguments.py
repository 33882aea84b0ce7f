"""What `--arg`, `--args-file` and `--limit` say: texts become the values that a program takes.

`--arg name=value` is JSON where that is of the parameter's type, and a plain string otherwise.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, NoReturn

import typer

from ramet.arguments import check_names, check_type
from ramet.errors import ArgumentError, near_miss
from ramet.limits import Limits
from ramet.program import Program
from ramet.runtime.cli.files import STDIN, AnyProgram, read_text

_TAKES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "map": dict}


def arguments_for(program: AnyProgram, given: Sequence[str]) -> dict[str, Any]:
    """The arguments that `--arg` gives; a usage error for a wrong name, a wrong type, or a twin."""
    signature = signature_of(program)
    found: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name:
            _wrong("--arg", f"{each!r} is not of the form name=value")
        if name in found:
            _wrong("--arg", f"{name!r} is given twice")
        try:
            check_names(program.name, signature, {name: text})
            found[name] = _value(program.name, signature.parameters.get(name), text)
        except ArgumentError as error:
            _wrong("--arg", error.message)
    return found


def check_complete(program: AnyProgram, arguments: Mapping[str, Any]) -> None:
    """A usage error if the program needs an argument that is not there."""
    missing = [
        f"--arg {name}=…" for name in required(signature_of(program)) if name not in arguments
    ]
    if missing:
        _wrong("--arg", f"{program.name}{signature_of(program)} needs {', '.join(missing)}")


def required(signature: Signature) -> list[str]:
    """The parameters that have no default."""
    rest = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    return [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is Parameter.empty and parameter.kind not in rest
    ]


def signature_of(program: AnyProgram) -> Signature:
    """What it takes by name; of a graph, its inputs."""
    if isinstance(program, Program):
        return program.signature
    return Signature(
        [
            Parameter(each.name, Parameter.KEYWORD_ONLY, annotation=_TAKES[each.takes])
            for each in program.inputs
        ]
    )


def items_for(file: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items of a batch; what `--arg` gives holds for every item that does not say otherwise.

    The file is JSON with a list of objects, or has one object a line; `-` is stdin.
    """
    text = read_text(file, "--args-file")
    if file == STDIN or Path(file).suffix != ".json":
        rows = [
            (f"{file}:{number}", _json(line, f"{file}:{number}"))
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
    else:
        data = _json(text, file)
        items = data if isinstance(data, list) else [data]
        rows = [(f"{file}: item {number}", item) for number, item in enumerate(items)]
    for where, item in rows:
        if not isinstance(item, dict):
            _wrong("--args-file", f"{where}: an item is an object with the arguments of one run")
    return [{**given, **item} for _, item in rows]


def limits_for(given: Sequence[str], limits: Limits | None = None) -> Limits:
    """The limits, or the usual ones, with those changed that `--limit name=value` names."""
    kinds = {field.name: type(field.default) for field in fields(Limits)}
    found: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not text:
            _wrong("--limit", f"{each!r} is not of the form name=value")
        if name not in kinds:
            known = "" if (hint := near_miss(name, kinds)) else f"; there are {', '.join(kinds)}"
            _wrong("--limit", f"there is no limit {name!r}{hint or known}")
        try:
            found[name] = kinds[name](text)
        except ValueError:
            _wrong("--limit", f"{name} must be a number, not {text!r}")
    try:
        return replace(limits or Limits(), **found)
    except ValueError as error:
        _wrong("--limit", str(error))


def _value(program: str, parameter: Parameter | None, text: str) -> Any:
    """The text as JSON if that is what the parameter takes, else as it is."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
        if parameter is not None:
            check_type(program, parameter, value)
        return value
    except (ValueError, RecursionError, ArgumentError):
        if parameter is not None:
            check_type(program, parameter, text)
        return text


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _wrong("--args-file", f"{where}: no JSON: {error}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _wrong(option: str, what: str) -> NoReturn:
    raise typer.BadParameter(what, param_hint=option)

"""`ramet serve`: programs over HTTP, until a signal says stop."""

import gc
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from ramet.errors import near_miss
from ramet.limits import Limits
from ramet.runtime.cli.arguments import limits_for
from ramet.runtime.cli.exits import NoEngine
from ramet.runtime.cli.terminal import err
from ramet.runtime.engine import Engine
from ramet.runtime.errors import EngineError
from ramet.runtime.server.config import ConfigError, ServerConfig, program_limits
from ramet.runtime.server.serve import serve

_OF_PROGRAMS = {field.name for field in fields(Limits)}
_OF_SERVER = {
    field.name: type(field.default)
    for field in fields(ServerConfig)
    if isinstance(field.default, int | float) and field.name not in ("port", "drain_s")
}


def run_server(
    *,
    model: str,
    name: str | None,
    device: str,
    dtype: str | None,
    kv_dtype: str | None,
    blocks: int | None,
    host: str,
    port: int,
    keys: str | None,
    public: Sequence[Path],
    library: Path | None,
    drain: float,
    limits: Sequence[str],
) -> None:
    """Check everything, load the engine, listen."""
    of_server, of_programs = _apart(limits)
    try:
        config = ServerConfig(
            host=host,
            port=port,
            keys=keys_of(keys, os.environ.get("RAMET_KEYS")),
            public=tuple(map(_text_of, public)),
            model=name or model,
            program=limits_for(of_programs, program_limits()),
            library_folder=library,
            drain_s=drain,
            **of_server,
        )
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    console = err()
    loading = console.status(f"Loading {model}…") if console.is_terminal else nullcontext()
    try:
        with loading:
            engine = Engine(model, device=device, dtype=dtype, kv_dtype=kv_dtype, num_blocks=blocks)
    except (EngineError, OSError) as error:
        raise NoEngine(str(error)) from error
    gc.collect()
    gc.freeze()  # what is there stays: looking at all of it again would stop everybody for 0.15 s

    def say(url: str) -> None:
        console.print(f"{config.model} on {url}", soft_wrap=True)

    with closing(engine):
        try:
            serve(engine, config, say)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from None


def _text_of(file: Path) -> str:
    """A public prefix, to the byte."""
    try:
        return file.read_bytes().decode("utf-8")
    except (OSError, UnicodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}", param_hint="--public") from None


def keys_of(file: str | None, text: str | None) -> dict[str, str]:
    """Keys with their tenants: each line, or what stands between commas, is `TENANT KEY`.

    Who gives either means to have keys: none in it is a mistake, and no open server.
    """
    if file is not None:
        if text:
            raise typer.BadParameter("keys are in --keys and in RAMET_KEYS; give one of the two")
        try:
            given = Path(file).read_text("utf-8")
        except (OSError, UnicodeError) as error:
            raise typer.BadParameter(
                f"{file} cannot be read: {error}", param_hint="--keys"
            ) from None
    elif text is not None:
        given = text
    else:
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(given.replace(",", "\n").split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise typer.BadParameter(f"line {number} of the keys is not of the form TENANT KEY")
        tenant, key = words
        if key in found:
            raise typer.BadParameter(f"line {number} of the keys has a key that stands above")
        found[key] = tenant
    if not found:
        where = "RAMET_KEYS" if file is None else file
        raise typer.BadParameter(f"{where}: there is no key in it")
    return found


def _apart(given: Sequence[str]) -> tuple[Mapping[str, Any], list[str]]:
    """The limits of the server, and those of programs as they were given."""
    of_server: dict[str, Any] = {}
    of_programs: list[str] = []
    for each in given:
        name, equals, text = each.partition("=")
        if name in _OF_PROGRAMS or not equals:
            of_programs.append(each)
        elif name not in _OF_SERVER:
            hint = near_miss(name, {*_OF_PROGRAMS, *_OF_SERVER})
            raise typer.BadParameter(f"there is no limit {name!r}{hint}", param_hint="--limit")
        else:
            try:
                of_server[name] = _OF_SERVER[name](text)
            except ValueError:
                message = f"{name} must be a number, not {text!r}"
                raise typer.BadParameter(message, param_hint="--limit") from None
    return of_server, of_programs

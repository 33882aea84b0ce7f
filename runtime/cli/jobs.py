"""What `run` is asked to do, checked before the engine is loaded: mistakes are told at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from ramet.limits import Limits
from ramet.program import Program
from ramet.runtime.cli.arguments import arguments_for, check_complete, items_for, limits_for
from ramet.runtime.cli.files import STDIN, AnyProgram, program_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A program with its arguments, and the engine that it wants."""

    file: str
    program: AnyProgram
    arguments: Mapping[str, Any]
    items: Sequence[Mapping[str, Any]] | None  # of a batch, `arguments` included
    model: str
    device: str
    dtype: str | None  # None: the device's own default
    seed: int | None  # None: what the program says, or 0
    limits: Limits


def job_for(
    file: str,
    *,
    name: str | None,
    given: Sequence[str],
    args_file: str | None,
    model: str,
    device: str,
    dtype: str | None,
    seed: int | None,
    limits: Sequence[str],
) -> Job:
    """The job of a command line; raises what is wrong with the file, or a usage error."""
    if file == STDIN and args_file == STDIN:
        raise typer.BadParameter("stdin can be FILE or ITEMS, not both", param_hint="--args-file")
    most = limits_for(limits)
    program = program_of(file, name, most)
    arguments = arguments_for(program, given)
    if args_file is None:
        check_complete(program, arguments)
    if seed is not None and isinstance(program, Program):
        program = program.seeded(seed)
    return Job(
        file=file,
        program=program,
        arguments=arguments,
        items=None if args_file is None else items_for(args_file, arguments),
        model=model,
        device=device,
        dtype=dtype,
        seed=seed,
        limits=most,
    )

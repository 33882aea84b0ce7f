"""A program of a FILE, compiled with the arguments that are given; nothing is run."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ramet.compile import Compiled
from ramet.graph import Graph
from ramet.limits import Limits
from ramet.passes import fill
from ramet.runtime.cli.arguments import arguments_for, check_complete, required, signature_of
from ramet.runtime.cli.exits import marked
from ramet.runtime.cli.files import AnyProgram, program_of
from ramet.runtime.cli.python_files import placed
from ramet.runtime.cli.terminal import err

if TYPE_CHECKING:
    from ramet.syntax.bounds import Bound


def compiled(file: str, name: str | None, given: Sequence[str]) -> Compiled:
    """Its graph as far as it is known; where that is not all of it, stderr says why.

    Of a request graph in JSON all of it is known; it takes all of its arguments, or none.
    """
    return compiled_and_most(file, name, given)[0]


def compiled_and_most(
    file: str, name: str | None, given: Sequence[str]
) -> "tuple[Compiled, Bound | None]":
    """As `compiled`; of a program in text that is not all known, what it takes at most as well."""
    program = program_of(file, name, Limits())
    arguments = arguments_for(program, given)
    found = _compiled(program, arguments, file)
    most = getattr(program, "most", None)
    return found, None if most is None or found.stops is None else most(**arguments)


def _compiled(program: AnyProgram, arguments: Mapping[str, Any], file: str) -> Compiled:
    if isinstance(program, Graph):
        if arguments:
            check_complete(program, arguments)
            program = fill(program, arguments)
        return Compiled(program, None)
    try:
        found = program.compile(**arguments)
    except Exception as error:
        raise placed(error, file) from None
    if found.stops is not None:
        _tell(program, found)
    return found


def _tell(program: AnyProgram, found: Compiled) -> None:
    stops = found.stops
    assert stops is not None, "there is something to tell"
    err().print(marked(str(stops)), soft_wrap=True)
    if stops.variable in required(signature_of(program)):
        hint = f"give it with --arg {stops.variable}=…"
    else:
        hint = "what comes before is shown"
    err().print(f"known ahead up to there; {hint}", style="dim", soft_wrap=True)

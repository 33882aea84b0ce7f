"""What is sent to a server, and what its events say. No connection."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ramet.client.errors import error_of
from ramet.client.results import RemoteFinished, details_of
from ramet.codec import to_json
from ramet.errors import ArgumentError, TraceError, shown
from ramet.events import (
    BranchKept,
    BranchOpened,
    BranchReleased,
    Event,
    NodeStarted,
    TextDelta,
    ValueBound,
)
from ramet.graph import Graph
from ramet.program import Program

Sendable: TypeAlias = "Program[..., Any] | Graph | str"
"""A program, a request graph, or programs as text, of which the last one is run."""

PROGRAMS = "/v1/programs"


def order(program: Sendable, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The body of one run.

    A program in text is sent as text. A Python one is traced here with its arguments, and its
    request graph is sent.

    Raises:
        LanguageError: wrong arguments, or a Python program that looks at a value while it runs.
    """
    if isinstance(program, Program) and not hasattr(program, "source"):
        return _with_seed(program, {"graph": json.loads(to_json(_traced(program, args, kwargs)))})
    if isinstance(program, Program):
        given = program.bind_arguments(*args, **kwargs)
        return _with_seed(program, {**_text_of(program), "arguments": given})
    if args:
        raise ArgumentError("a program that is sent as it is takes its arguments by name")
    return {**_as_it_is(program), "arguments": dict(kwargs)}


def batch_order(program: Sendable, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body of a batch, which shares what its runs have in common. Raises as `order`."""
    if isinstance(program, Program) and not hasattr(program, "source"):
        found = program.compile()
        if found.stops is not None:
            raise _unknown(program, found.stops)
        graph = json.loads(to_json(found.graph))
        return _with_seed(program, {"graph": graph, "batch": [*map(dict, items)]})
    if isinstance(program, Program):
        given = [program.bind_arguments(**item) for item in items]
        return _with_seed(program, {**_text_of(program), "batch": given})
    return {**_as_it_is(program), "batch": [*map(dict, items)]}


def options(seed: int | None, limits: Mapping[str, float] | None) -> dict[str, Any]:
    """What a body says besides the program and its arguments."""
    given = {"seed": seed, "limits": None if limits is None else dict(limits)}
    return {name: value for name, value in given.items() if value is not None}


def _traced(program: Program[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Graph:
    try:
        return program.trace(*args, **kwargs)
    except TraceError as error:
        raise _unknown(program, error) from None


def _unknown(program: Program[..., Any], stops: TraceError) -> ArgumentError:
    return ArgumentError(
        f"{program.name} cannot be sent: {stops.message}. Write it as text, which decides on the "
        "server, or run it on an engine here",
        stops.span,
    )


def _text_of(program: Any) -> dict[str, Any]:
    return {"source": program.source, "program": program.name}


def _as_it_is(program: object) -> dict[str, Any]:
    if isinstance(program, Graph):
        return {"graph": json.loads(to_json(program))}
    if isinstance(program, str):
        return {"source": program}
    raise ArgumentError(
        f"{shown(program)} is neither a program, a request graph nor the text of one; "
        "is a function missing its @ramet.program?"
    )


def _with_seed(program: Program[..., Any], body: dict[str, Any]) -> dict[str, Any]:
    return body if program.seed is None else {**body, "seed": program.seed}


def outcomes_of(told: Mapping[str, Any]) -> list[RemoteFinished | Exception]:
    """Those of a batch, in its order."""
    return [
        RemoteFinished.of(each["result"]) if "result" in each else error_of(each["error"])
        for each in told["results"]
    ]


def item_of(name: str, data: Mapping[str, Any]) -> Event | RemoteFinished | None:
    """What an event of that name tells, if anything; raises the error that it tells of."""
    match name:
        case "node":
            return NodeStarted(data["node"], data["kind"], data["name"], data["path"])
        case "text":
            tokens = tuple(data.get("tokens", ()))
            return TextDelta(
                **_variable(data), text=data["text"], sample=data["sample"], tokens=tokens
            )
        case "value":
            info = details_of(data.get("details"))
            return ValueBound(**_variable(data), value=data["value"], info=info)
        case "branch_opened":
            return BranchOpened(data["path"])
        case "branch_kept":
            return BranchKept(data["path"])
        case "branch_released":
            return BranchReleased(data["path"])
        case "result":
            return RemoteFinished.of(data["result"])
        case "error":
            raise error_of(data["error"])
        case _:
            return None


def _variable(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in ("node", "name", "path")}

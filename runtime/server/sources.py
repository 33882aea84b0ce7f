"""Programs as clients send them: text of the DSL, or a request graph. Both are data; nothing of a
client's is ever run as Python. All of it takes time, and belongs on a thread.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from inspect import Parameter
from typing import Any

from ramet.arguments import check_names, type_name
from ramet.codec import from_json
from ramet.compile import Compiled, compiled
from ramet.errors import GraphError, LanguageError, near_miss, shown
from ramet.graph import Graph
from ramet.limits import Limits
from ramet.passes import common_prefix, fill
from ramet.passes.plan import TURN, plan
from ramet.runtime.engine import AnyProgram
from ramet.runtime.server.errors import Refused, diagnostics_of
from ramet.syntax.load import TextProgram, library
from ramet.syntax.source import MAX_DIAGNOSTICS

FILE = "program"
"""What places in a program that was sent are called."""

PLANNING_S = 5.0
"""Seconds that a body may compute where nothing is run."""

NAME = 100
"""Characters of a name in a graph; text takes no longer ones."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A program as it was sent: one of the two."""

    source: str | None = None
    graph: Mapping[str, Any] | None = None
    program: str | None = None  # which one of the source; its last one if not given


def load(sent: Sent, limits: Limits) -> AnyProgram:
    """The program, checked. Raises `LanguageError`."""
    if sent.graph is not None:
        return _graph(sent.graph, limits)
    programs = library(sent.source or "", file=FILE, limits=limits)
    name = [*programs][-1] if sent.program is None else sent.program
    if name not in programs:
        raise LanguageError(f"the source has no program {shown(name)}{near_miss(name, programs)}")
    return programs[name]


def _graph(data: Mapping[str, Any], limits: Limits) -> Graph:
    nodes = data.get("nodes")
    if isinstance(nodes, list):
        limits.hold("statements", len(nodes))
        for at, node in enumerate(nodes):
            if isinstance(node, dict):
                _check_name(node.get("name"), f"$.nodes[{at}].name")
    _check_name(data.get("name"), "$.name")
    return from_json(json.dumps(data))


def _check_name(name: object, path: str) -> None:
    """Blocks remember who made them: a name is as short as it is in text."""
    if isinstance(name, str) and len(name) > NAME:
        raise GraphError(f"a name of more than {NAME} characters", path=path)


def check(sent: Sent, limits: Limits) -> dict[str, Any]:
    """Its programs, or all of its mistakes."""
    try:
        if sent.graph is not None:
            programs: list[AnyProgram] = [_graph(sent.graph, limits)]
        else:
            programs = [*library(sent.source or "", file=FILE, limits=limits).values()]
    except GraphError as error:
        told = error.breaks[:MAX_DIAGNOSTICS]
        breaks = [{"message": each.sentence, "node": each.node} for each in told]
        mistakes = breaks or [{"message": error.message, "path": error.path}]
        return {"ok": False, "programs": [], "mistakes": mistakes}
    except LanguageError as error:
        return {"ok": False, "programs": [], "mistakes": diagnostics_of(error)}
    return {"ok": True, "programs": [*map(described, programs)], "mistakes": []}


def described(program: AnyProgram) -> dict[str, Any]:
    """Its name, and what it takes."""
    if isinstance(program, Graph):
        takes = [{"name": each.name, "type": each.takes} for each in program.inputs]
    else:
        takes = [_parameter(each) for each in program.signature.parameters.values()]
    return {"name": program.name, "parameters": takes}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    kind = None if parameter.annotation is Parameter.empty else type_name(parameter.annotation)
    found: dict[str, Any] = {"name": parameter.name, "type": "map" if kind == "dict" else kind}
    if parameter.default is not Parameter.empty:
        found["default"] = parameter.default
    return found


def planned(
    program: AnyProgram, arguments: Mapping[str, Any], limits: Limits, count: Callable[[str], int]
) -> dict[str, Any]:
    """What a run can take, and what is known of it ahead; arguments may be left out. Raises
    `LimitError` if its body computes for longer than `PLANNING_S`.

    Args:
        count: the tokens of a text.
    """
    limits = replace(limits, seconds=min(limits.seconds, PLANNING_S))
    found = _compiled(program, arguments, limits)
    made = plan(found.graph, count)
    prefix = common_prefix([found.graph])
    texts = [str(part) for node in prefix for part in getattr(node, "parts", ())]
    turns = sum(type(node).__name__ == "Open" for node in prefix)
    most = None
    if isinstance(program, TextProgram) and found.stops is not None:
        most = asdict(program.most(**arguments))
    return {
        "program": program.name,
        "stops": None if found.stops is None else diagnostics_of(found.stops)[0],
        "shared_prefix": {"tokens": sum(map(count, texts)) + TURN * turns, "text": "".join(texts)},
        "most": most,
        **asdict(made),
    }


def _compiled(program: AnyProgram, arguments: Mapping[str, Any], limits: Limits) -> Compiled:
    if isinstance(program, Graph):
        return Compiled(fill(program, arguments) if arguments else program, None)
    check_names(program.name, program.signature, arguments)
    return compiled(program.name, program.signature, arguments, program.record, limits=limits)


def lowered(limits: Limits, given: Mapping[str, float]) -> Limits:
    """The limits with those lowered that a client names; `Refused` for one that would rise, and for
    those of a source, which was read before."""
    known = {name: most for name, most in asdict(limits).items() if name not in _OF_SOURCE}
    for name, value in given.items():
        if name not in known:
            raise Refused(
                400,
                f"there is no limit {shown(name)}{near_miss(name, known)}",
                code="invalid_value",
                param="limits",
            )
        most = known[name]
        if not 0 <= value <= most:
            raise Refused(
                400,
                f"limits.{name}: {value:,} is out of range; this server takes 0 to {most:,}",
                code="limit_exceeded",
                param=f"limits.{name}",
                limit=name,
                most=most,
            )
    return replace(limits, **given)


_OF_SOURCE = ("source_bytes", "statements", "nesting")

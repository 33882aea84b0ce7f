"""Traces a program ahead of time, as far as it can be known without its arguments and a run.

Knows recorders and graphs; a program is a name, a signature, and a function that runs its body.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any, TypeAlias

from ramet.arguments import check_names, check_type, type_name
from ramet.callsite import callsite
from ramet.errors import ArgumentError, TraceError
from ramet.graph import Graph
from ramet.limits import Limits
from ramet.meter import Meter
from ramet.nodes import TYPES, Input, Node, Ref, Result
from ramet.passes import merge, order, simplify
from ramet.recorder import GraphRecorder, Recorder
from ramet.values import Value

Body: TypeAlias = Callable[[Recorder, Mapping[str, Any]], Result]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What is known of a program ahead of a run.

    With `stops` the graph is what every run begins with: it has no result, and nothing is pruned.
    """

    graph: Graph
    stops: TraceError | None  # where, and for which value, the program has to run to be known


def compiled(
    name: str,
    signature: Signature,
    arguments: Mapping[str, Any],
    body: Body,
    *,
    limits: Limits | None = None,
) -> Compiled:
    """Trace the body with these arguments, and inputs for those that have no default.

    Raises:
        LanguageError: wrong arguments, or the body is wrong, or goes over one of the limits.
    """
    tracer = Tracer(Meter(limits or Limits()))
    filled = _arguments(name, signature, arguments, tracer)
    result: Result = None
    try:
        result = body(tracer, filled)
    except Exception:
        if tracer.stops is None:
            raise
    if tracer.stops is not None:
        return Compiled(order(merge(Graph(name, tracer.nodes))), tracer.stops)
    return Compiled(simplify(tracer.graph(name, result)), None)


class Tracer(GraphRecorder):
    """Collects nodes until the body looks at a value; what it does after that is not certain."""

    def __init__(self, meter: Meter | None = None) -> None:
        self.stops: TraceError | None = None
        super().__init__(meter)

    def add(self, node: Node) -> int:
        if self.stops is not None:
            raise self.stops
        return super().add(node)

    def read(self, node: int) -> object:
        self.stops = self.stops or TraceError(self.binds(node).name, callsite())
        raise self.stops

    def info(self, node: int) -> object:
        return self.read(node)


def _arguments(
    name: str, signature: Signature, arguments: Mapping[str, Any], tracer: Tracer
) -> dict[str, Any]:
    check_names(name, signature, arguments)
    try:
        given = signature.bind_partial(**arguments).arguments
    except TypeError as error:
        raise ArgumentError(f"{name}{signature}: {error}") from None
    for parameter, value in given.items():
        check_type(name, signature.parameters[parameter], value)
    return {
        parameter.name: given[parameter.name]
        if parameter.name in given
        else _missing(parameter, tracer)
        for parameter in signature.parameters.values()
    }


def _missing(parameter: Parameter, tracer: Tracer) -> object:
    """Its default, nothing for `*rest` and `**rest`, or a value that is given later."""
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return ()
    if parameter.kind is Parameter.VAR_KEYWORD:
        return {}
    if parameter.default is not Parameter.empty:
        return parameter.default
    kind = type_name(parameter.annotation)
    takes = {"dict": "map"}.get(kind, kind)
    node = tracer.add(Input(parameter.name, takes if takes in TYPES else "str"))
    return Value(tracer, Ref(node))

"""Programs: a Python function on a state, its arguments checked before its body runs.

`trace` gives the request graph, `run` goes to the default engine. Knows of a runtime only that it
brings a recorder: `record` runs the body on it.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from inspect import BoundArguments, Parameter, Signature
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar, overload

from ramet.arguments import check_names, check_type, fit
from ramet.callsite import callsite
from ramet.compile import Compiled, compiled
from ramet.default import current, current_state, default_runner
from ramet.errors import ArgumentError, LanguageError
from ramet.graph import Graph
from ramet.nodes import Result
from ramet.recorder import GraphRecorder, Recorder
from ramet.results import result_of
from ramet.state import State

P = ParamSpec("P")
R = TypeVar("R")
Body: TypeAlias = Callable[Concatenate[State, P], R]


class Program(Generic[P, R]):
    """A prompt program. Called on a state it goes on there; `run`, `trace` and `stream` start anew.

    `signature` is that of the call: the function's own, without the state and what is bound.
    `pure` says that running the body has no effect but what it records, so that it may be traced
    ahead: so for a program in text.
    """

    __name__: str

    def __init__(
        self,
        body: Body[P, R],
        name: str | None = None,
        *,
        pure: bool = False,
    ) -> None:
        functools.update_wrapper(self, body)
        self.name = name or body.__name__
        self.seed: int | None = None
        self.pure = pure
        self._body = body
        self._bound: dict[str, Any] = {}
        self._full = _without_state(self.name, body)
        self.signature = self._full

    def __call__(self, state: State, /, *args: Any, **kwargs: Any) -> R:
        """Run the body on this state, as a part of the program that writes on it.

        The arguments may be lazy values, whatever the function annotates.
        """
        _check_state(state, self.name)
        return self._call(state, self._bind(args, kwargs))

    def bind_arguments(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """Every parameter by name, defaults and bound ones included; checked."""
        return self._bind(args, kwargs)

    def bind(self, **arguments: Any) -> "Program[..., R]":
        """The same program with these parameters fixed."""
        check_names(self.name, self.signature, arguments)
        for name, value in arguments.items():
            check_type(self.name, self._full.parameters[name], value)
        same = copy(self)
        same._bound = self._bound | arguments
        free = [p for p in self._full.parameters.values() if p.name not in same._bound]
        same.signature = self._full.replace(parameters=free)
        return same

    def seeded(self, seed: int) -> "Program[P, R]":
        """The same program with this seed, from which every draw in it follows by its place."""
        same = copy(self)
        same.seed = seed
        return same

    def trace(self, *args: P.args, **kwargs: P.kwargs) -> Graph:
        """The request graph of one run; `TraceError` where the body looks at a value."""
        recorder = GraphRecorder()
        result = self.record(recorder, self.bind_arguments(*args, **kwargs))
        return recorder.graph(self.name, result)

    def compile(self, **arguments: Any) -> Compiled:
        """The request graph ahead of a run, as far as the program can be known.

        A parameter without an argument and without a default becomes an input of the graph.
        """
        return compiled(
            self.name,
            self.signature,
            arguments,
            lambda recorder, given: self.record(recorder, self._bound | dict(given)),
        )

    def record(self, recorder: Recorder, arguments: Mapping[str, Any]) -> Result:
        """Run the body on the root of that recorder; `arguments` as `bind_arguments` gives them."""
        state = State(recorder)
        with current(state):
            return result_of(self._call(state, arguments), recorder)

    def call(self, state: State, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run on a fresh state, as a part of the program that writes on `state`.

        Gives what it returns, its values still lazy; without a return, all its variables.
        """
        _check_state(state, self.name)
        fresh = state.begin(self.name)
        with current(fresh):
            returned = self._call(fresh, self._bind(args, kwargs))
        return fresh.variables if returned is None else returned

    def run(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run on the default engine; in the body of a program, `call` it from there."""
        if (state := current_state()) is not None:
            return Called(self.call(state, *args, **kwargs))
        return default_runner(self.name).run(self, *args, **kwargs)

    def run_batch(self, arguments: Sequence[Mapping[str, Any]], **options: Any) -> Any:
        """Run on the default engine, once for each mapping of arguments; options are the engine's:
        how many at once, and whether to show progress."""
        return default_runner(self.name).run_batch(self, arguments, **options)

    def stream(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run on the default engine, and hand out what is written while it is written."""
        return default_runner(self.name).stream(self, *args, **kwargs)

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return self._bound | fit(self.name, self.signature, args, kwargs)

    def _call(self, state: State, arguments: Mapping[str, Any]) -> R:
        bound = BoundArguments(self._full, dict(arguments))  # pyright: ignore[reportArgumentType]
        return self._body(state, *bound.args, **bound.kwargs)

    def __repr__(self) -> str:
        return f"<program {self.name}{self.signature}>"


@dataclass(frozen=True, slots=True)
class Called:
    """What `run` gives inside the body of another program."""

    value: Any  # what was returned; its values are lazy

    def __getitem__(self, name: str) -> Any:
        return self.value[name]


@overload
def program(body: Body[P, R], /) -> Program[P, R]: ...
@overload
def program(*, name: str | None = None) -> Callable[[Body[P, R]], Program[P, R]]: ...
def program(body: Any = None, /, *, name: str | None = None) -> Any:
    """Make a program of a function; its first parameter is the state. With or without parentheses.

    @ramet.program
    def classify(s: ramet.State, review: str):
        s += "Review: " + review + "\\nSentiment:"
        s += ramet.select("label", [" positive", " negative", " neutral"])
    """
    return functools.partial(Program, name=name) if body is None else Program(body, name)


def _without_state(name: str, body: Callable[..., Any]) -> Signature:
    if inspect.iscoroutinefunction(body) or inspect.isgeneratorfunction(body):
        raise LanguageError(f"{name}: a program is a plain function, no async one and no generator")
    signature = inspect.signature(body)
    parameters = [*signature.parameters.values()]
    if not parameters or parameters[0].kind not in _POSITIONAL:
        raise LanguageError(f"{name}{signature}: the first parameter of a program is its state")
    return signature.replace(parameters=parameters[1:], return_annotation=Signature.empty)


_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def _check_state(state: object, name: str) -> None:
    if not isinstance(state, State):
        raise ArgumentError(
            f"{name} is a program: call it as {name}(state, ...) inside another one, "
            f"and as {name}.run(...) elsewhere",
            callsite(),
        )

"""A program: a function on a state, and the ways to run it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from ramet.compat.sglang.backend.base_backend import BaseBackend
from ramet.compat.sglang.global_config import global_config
from ramet.compat.sglang.running import Call, cache_program, run_batch, run_program
from ramet.compat.sglang.sampling import SglSamplingParams
from ramet.compat.sglang.state import ProgramState
from ramet.compat.sglang.tracer import TracerProgramState, current_trace, trace_program

# Of `SglSamplingParams`, what a run takes; the others are a gen's own.
RUN_SETTINGS = tuple(
    field.name
    for field in fields(SglSamplingParams)
    if field.name not in {"min_new_tokens", "json_schema", "dtype", "regex"}
)


class SglFunction:
    """`@function` makes one. Calling it runs it."""

    def __init__(
        self,
        func: Callable[..., Any],
        num_api_spec_tokens: int | None = None,
        bind_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        spec = inspect.getfullargspec(func)
        assert spec.args[:1] == ["s"], 'The first argument of a program must be named "s"'
        self.func = func
        self.num_api_spec_tokens = num_api_spec_tokens
        self.bind_arguments = dict(bind_arguments or {})
        self.arg_names = spec.args[1:]
        self.arg_defaults = list(spec.defaults or ())
        self._own = {*self.arg_names, *spec.kwonlyargs}
        self.__name__ = getattr(func, "__name__", type(func).__name__)
        self.__doc__ = func.__doc__

    def bind(self, **kwargs: Any) -> "SglFunction":
        """The program with these arguments, whatever a call says."""
        unknown = kwargs.keys() - self._own
        assert not unknown, f"{self.__name__} has no parameter {sorted(unknown)}"
        return SglFunction(self.func, bind_arguments={**self.bind_arguments, **kwargs})

    def run(self, *args: Any, **kwargs: Any) -> ProgramState:
        """Run the body, in this thread; generations may still be under way when it returns.

        Keywords that are parameters of the program go to it. Of the others, those in
        `RUN_SETTINGS` are the settings of every gen that has none of its own; `backend`; `stream`:
        the body runs in a thread, and `text_iter` tells; `use_thread=False`: what is appended is
        done at once.

        Raises:
            AssertionError: there is no backend.
            Exception: what the body raises. What a generation raises is raised where its
                variable is read.
        """
        own = {name: kwargs.pop(name) for name in self._own & kwargs.keys()}
        settings = _sampling(kwargs)
        backend = resolved_backend(kwargs.pop("backend", None))
        stream, use_thread = kwargs.pop("stream", False), kwargs.pop("use_thread", True)
        call = Call(self, args, {**own, **kwargs, **self.bind_arguments})
        return run_program(call, backend, settings, stream=stream, use_thread=use_thread)

    def run_batch(
        self,
        batch_kwargs: Sequence[Any],
        *,
        backend: Any = None,
        num_threads: int | str = "auto",
        progress_bar: bool = False,
        generator_style: bool = False,
        **settings: Any,
    ) -> Any:
        """Run once for each item, together, and wait: a list of states, in the order of the items.

        Args:
            batch_kwargs: for each run a dictionary of arguments, or a list of them in order.
            num_threads: bodies at once; "auto" is 16 for each core, at least 96.
            generator_style: an iterator instead, which hands out states as they are done.
            settings: of `RUN_SETTINGS`.

        Raises what a body raises; what a generation raises stays in its state.
        """
        assert isinstance(batch_kwargs, list | tuple), "a batch is a list"
        if not batch_kwargs:
            return []
        default = _sampling(settings)
        if settings:
            raise TypeError(f"run_batch has no setting {sorted(settings)[0]!r}")
        calls = [Call(self, (), self._arguments(item)) for item in batch_kwargs]
        found = resolved_backend(backend)
        if len(calls) > 1 and global_config.enable_precache_with_tracing:
            cache_program(self, found)
        states = run_batch(calls, found, default, num_threads, progress_bar)
        return states if generator_style else list(states)

    def _arguments(self, item: Any) -> dict[str, Any]:
        if isinstance(item, Mapping):
            return {**item, **self.bind_arguments}
        least = len(self.arg_names) - len(self.arg_defaults)
        if not least <= len(item) <= len(self.arg_names):
            raise Exception(
                f"Given arguments mismatch the signature of {self.__name__}: "
                f"{len(item)} values for the parameters {', '.join(self.arg_names)}"
            )
        return {**dict(zip(self.arg_names, item, strict=False)), **self.bind_arguments}

    def trace(self, *, backend: Any = None, **kwargs: Any) -> TracerProgramState:
        """What the body appends, without running it."""
        found = resolved_backend(backend) if backend is not None else _default_or_none()
        return trace_program(self, {**kwargs, **self.bind_arguments}, found)

    def cache(self, backend: Any = None) -> None:
        """Compute the constant text that every run begins with."""
        cache_program(self, resolved_backend(backend))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current_trace.get() is not None:
            kwargs.pop("backend", None)
            named = dict(zip(self.arg_names, args, strict=False))
            return self.trace(**named, **kwargs)
        return self.run(*args, **kwargs)


def resolved_backend(backend: Any) -> BaseBackend:
    """The backend meant by what a program names: itself, a runtime's endpoint, or an engine's."""
    found = global_config.default_backend if backend is None else backend
    assert found is not None, "Please specify a backend: set_default_backend(...) or backend=..."
    found = getattr(found, "endpoint", found)
    if type(found).__module__.startswith("ramet.runtime"):
        from ramet.compat.sglang.backend.local import LocalBackend

        return LocalBackend(found)
    return found


def _default_or_none() -> BaseBackend | None:
    return None if global_config.default_backend is None else resolved_backend(None)


def _sampling(kwargs: dict[str, Any]) -> SglSamplingParams:
    """The settings among the keywords, which are taken out."""
    given = {name: kwargs.pop(name) for name in RUN_SETTINGS if name in kwargs}
    unset = SglSamplingParams.unset(**given)
    return SglSamplingParams().overridden_by(unset)

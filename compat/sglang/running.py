"""Runs programs: one, or a batch. Knows states and backends, no engine."""

import os
import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ramet.compat.sglang.backend.base_backend import BaseBackend
from ramet.compat.sglang.executor import StreamExecutor
from ramet.compat.sglang.global_config import global_config
from ramet.compat.sglang.sampling import SglSamplingParams
from ramet.compat.sglang.state import ProgramState
from ramet.compat.sglang.tracer import constant_prefix

_LEAST_PREFIX = 64  # characters of constant text that are worth a request of their own
_CHUNK = 200  # runs of a generator's batch that are taken on at once
_numbers = count()


@dataclass(frozen=True)
class Call:
    """A program with its arguments, and its number: what is drawn depends on that alone."""

    program: Any  # an SglFunction
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    number: int = field(default_factory=lambda: next(_numbers))


def run_program(
    call: Call,
    backend: BaseBackend,
    settings: SglSamplingParams,
    *,
    stream: bool = False,
    use_thread: bool = True,
) -> ProgramState:
    """Run a body, with `stream` in a thread of its own; its state goes on after it."""
    executor = StreamExecutor(
        backend,
        call.kwargs,
        settings,
        stream=stream,
        num_api_spec_tokens=call.program.num_api_spec_tokens,
        use_thread=use_thread,
        place=str(call.number),
    )
    state = ProgramState(executor)
    if stream:
        body = threading.Thread(target=_streamed, args=(state, call), name="sgl-body", daemon=True)
        executor.body = body
        body.start()
    else:
        _body(state, call)
    return state


def _body(state: ProgramState, call: Call) -> None:
    executor = state.stream_executor
    try:
        state.ret_value = call.program.func(state, *call.args, **call.kwargs)
    except BaseException as error:
        executor.fail(error)
        raise
    finally:
        executor.end()
    if global_config.verbosity >= 2:
        print(state.text())


def _streamed(state: ProgramState, call: Call) -> None:
    with suppress(BaseException):  # the state has it, for who reads it
        _body(state, call)


def run_batch(
    calls: Sequence[Call],
    backend: BaseBackend,
    settings: SglSamplingParams,
    num_threads: int | str,
    progress_bar: bool,
) -> Generator[ProgramState, None, None]:
    """The finished states, in order."""
    auto = max(96, 16 * (os.cpu_count() or 1))
    threads = min(auto if num_threads == "auto" else int(num_threads), len(calls))

    def one(call: Call) -> ProgramState:
        state = run_program(call, backend, settings)
        state.sync()
        return state

    with (
        ThreadPoolExecutor(max(1, threads), "sgl-batch") as pool,
        _Bar(len(calls), progress_bar) as bar,
    ):
        for begin in range(0, len(calls), _CHUNK):
            futures = [pool.submit(one, call) for call in calls[begin : begin + _CHUNK]]
            try:
                for future in futures:
                    yield future.result()
                    bar.advance()
            finally:
                for future in futures:
                    future.cancel()


class _Bar:
    """A progress bar, or none."""

    def __init__(self, total: int, shown: bool) -> None:
        self._progress = None
        if shown:
            from rich.progress import Progress

            self._progress = Progress()
            self._task = self._progress.add_task("programs", total=total)

    def advance(self) -> None:
        if self._progress is not None:
            self._progress.advance(self._task)

    def __enter__(self) -> "_Bar":
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._progress is not None:
            self._progress.stop()


def cache_program(program: Any, backend: BaseBackend) -> None:
    """Have the text computed that all runs of the program begin with, if it is worth it."""
    prefix = constant_prefix(program, backend)
    if len(prefix) > _LEAST_PREFIX:
        backend.cache_prefix(prefix)

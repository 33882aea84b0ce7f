"""Token-level work on an engine, from any thread: handed to the one thread that drives it.

An `AsyncEngine` has such a thread. For an `Engine` there is one as long as there is work.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence as Tokens
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeVar

from ramet.params import SamplingParams
from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.core import EngineCore
from ramet.runtime.engine import Engine
from ramet.runtime.errors import EngineClosed, EngineError
from ramet.runtime.sequence import Generation, Scoring, Sequence, Task
from ramet.types import Type

Tasks = list[Task]
AnyTask = TypeVar("AnyTask", bound=Task)


class Desk:
    """Takes the tasks of one piece of work, on the engine's thread, and says when all ended."""

    def __init__(self, core: EngineCore, result: "Future[Tasks]") -> None:
        self.core = core
        self.tasks: Tasks = []
        self._result = result
        self._left = 0

    def open(self, tokens: Tokens[int] = ()) -> Sequence:
        return self.core.open(tokens)

    def generate(
        self,
        sequence: Sequence,
        params: SamplingParams,
        *,
        key: int,
        on_text: Callable[[str], None] | None = None,
        type: Type | None = None,
    ) -> Generation:
        grammar = None if type is None else self.core.grammars.start(type)
        task = self.core.generate(
            sequence, params, key=key, on_done=self._ended, on_text=on_text, grammar=grammar
        )
        return self._take(task)

    def score(self, sequence: Sequence, start: int) -> Scoring:
        return self._take(self.core.score(sequence, start, on_done=self._ended))

    def _take(self, task: AnyTask) -> AnyTask:
        self.tasks.append(task)
        self._left += 1
        return task

    def _ended(self, task: Task) -> None:
        self._left -= 1
        if self._left == 0:
            self.settle()

    def clear(self) -> None:
        """Drop every cached block."""
        self.core.pool.clear()

    def settle(self) -> None:
        """Tell, once nothing is left."""
        error = next((task.error for task in self.tasks if task.error is not None), None)
        if not self._left:
            self._tell(error)

    def give_up(self, error: BaseException) -> None:
        self._tell(error)
        for task in self.tasks:
            self.core.abort(task)

    def _tell(self, error: BaseException | None) -> None:
        with suppress(InvalidStateError):  # it was told before, or nobody waits any more
            if error is None:
                self._result.set_result(self.tasks)
            else:
                self._result.set_exception(error)


Submit = Callable[[Desk], None]


class Work:
    """What is under way on one engine."""

    def __init__(self, engine: Engine | AsyncEngine) -> None:
        self.engine = engine.engine if isinstance(engine, AsyncEngine) else engine
        self._desks: set[Desk] = set()
        if isinstance(engine, AsyncEngine):
            engine.admit(self)
            self._post = engine.post
        else:
            self._post = _Pump(engine, self).post

    def start(self, submit: Submit) -> "Future[Tasks]":
        """Have `submit` called on the engine's thread; the tasks it made, when they all ended.

        The future raises what `submit` raises, else the first error of a task.
        """
        result: Future[Tasks] = Future()

        def call(core: EngineCore) -> None:
            desk = Desk(core, result)
            self._desks.add(desk)
            result.add_done_callback(lambda _: self._desks.discard(desk))
            try:
                submit(desk)
            except Exception as error:
                desk.give_up(error)
            desk.settle()

        self._post(call)
        return result

    def run(self, submit: Submit) -> Tasks:
        """`start`, and wait."""
        return self.start(submit).result()

    @property
    def busy(self) -> bool:
        """Whether somebody waits for tasks."""
        return bool(self._desks)

    def fail(self, error: Exception) -> None:
        """On the engine's thread: nothing of this will be done."""
        for desk in list(self._desks):
            desk.give_up(error)


class _Pump:
    """Drives an engine while there is work, in turn with whoever else drives it."""

    def __init__(self, engine: Engine, work: Work) -> None:
        self._engine = engine
        self._work = work
        self._gate = threading.Lock()
        self._calls: deque[Callable[[EngineCore], None]] = deque()
        self._running = False

    def post(self, call: Callable[[EngineCore], None]) -> None:
        with self._gate:
            if self._engine.closed:
                raise EngineClosed("the engine is closed")
            self._calls.append(call)
            if not self._running:
                self._running = True
                threading.Thread(target=self._drive, name="sgl-engine", daemon=True).start()

    def _drive(self) -> None:
        while self._goes_on():
            with self._engine.turn:
                while self._calls:
                    self._calls.popleft()(self._engine.core)
                if self._engine.closed:
                    self._work.fail(EngineClosed("the engine was closed"))
                self._round()

    def _round(self) -> None:
        try:
            self._engine.round([])
        except Exception as error:
            self._work.fail(EngineError(f"the engine failed: {type(error).__name__}: {error}"))

    def _goes_on(self) -> bool:
        """False if there is nothing to do: then the thread ends, and `post` starts another."""
        with self._gate:
            self._running = bool(self._calls) or self._work.busy
            return self._running

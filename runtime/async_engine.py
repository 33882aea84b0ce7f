"""The engine on a thread of its own: programs come at any time, from any event loop, and share.

The thread alone touches the engine. Coroutines hand it calls through a queue and get answers in
their own loop; a coroutine that is cancelled takes its program with it.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Token, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Protocol, Self, TypedDict, TypeVar, Unpack
from weakref import WeakSet

from rich.progress import Progress

from ramet import default
from ramet.limits import Limits
from ramet.nodes import Node
from ramet.runtime.core import EngineCore, EngineStats
from ramet.runtime.engine import AnyProgram, Engine, bound_arguments, plain_prompts
from ramet.runtime.errors import EngineClosed, EngineError
from ramet.runtime.events import Event
from ramet.runtime.mail import Mail
from ramet.runtime.result import Finished
from ramet.runtime.run import Run
from ramet.runtime.works import Works

T = TypeVar("T")

_ROOM = 0.02
"""Of the time of a step in which runs ended, for those to come that take their places: who comes
later waits for all of the next step."""


class Start(TypedDict, total=False):
    """How a run is started, besides its program and its arguments; see `Engine.start`."""

    item: int
    works: Works | None
    seed: int | None
    limits: Limits | None
    scope: bytes
    guard: Callable[[Node], None] | None


class _Job:
    """One program on its way, and the loop that waits for its `outcome`."""

    def __init__(
        self,
        program: AnyProgram,
        arguments: Mapping[str, Any],
        mail: Mail,
        on_event: Callable[[Event], None] | None,
        start: Start,
    ) -> None:
        self.program = program
        self.arguments = arguments
        self.start = start
        self.variables = copy_context()
        self.run: Run | None = None
        self.over = False  # on the engine's thread
        self.outcome: asyncio.Future[Finished | Exception] = mail.loop.create_future()
        self._mail = mail
        self._on_event = on_event

    @property
    def on_event(self) -> Callable[[Event], None] | None:
        """What the engine tells, on its thread."""
        return None if self._on_event is None else partial(self._mail.post, self._take)

    def end(self, outcome: Finished | Exception) -> None:
        """On the engine's thread."""
        if not self.over:
            self.over = True
            self.send(outcome)

    def send(self, outcome: Finished | Exception) -> None:
        """From any thread; only the first one counts."""
        self._mail.post(self._settle, outcome)

    def _take(self, event: Event) -> None:
        assert self._on_event is not None, "no events were asked for"
        if not self.outcome.done():
            try:
                self._on_event(event)
            except Exception as error:
                self._settle(error)

    def _settle(self, outcome: Finished | Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Guest(Protocol):
    """Who has work of its own on the core, besides programs."""

    def fail(self, error: Exception) -> None:
        """The engine gave up all its work, for this reason. Called on its thread."""


class AsyncEngine:
    """Runs programs as they arrive, in one continuous batch.

    async with AsyncEngine("smollm2-135m") as engine:
        results = await asyncio.gather(*(engine.run(tips, topic=t) for t in topics))
    """

    def __init__(self, model: str | None = None, **settings: Any) -> None:
        """Load a model as `Engine` does, and start the thread."""
        self._begin(Engine(model, **settings))

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """Take over an engine; nobody else may use it from now on."""
        self = cls.__new__(cls)
        self._begin(engine)
        return self

    def _begin(self, engine: Engine) -> None:
        self._engine = engine
        engine.core.grammars.on_over = lambda: self._call(_nothing)  # a guest may wait for it
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._jobs: dict[Run, _Job] = {}
        self._waited: WeakSet[_Job] = WeakSet()
        self._asked: set[Callable[[Exception], None]] = set()
        self._guests: WeakSet[Guest] = WeakSet()
        self._last_mail: Mail | None = None
        self._stop = False
        self._token: Token[default.Runner] | None = None
        self._gate = threading.Lock()  # between taking a job in and stopping
        self._thread = threading.Thread(target=self._work, name="ramet-engine", daemon=True)
        self._thread.start()

    # -- programs

    async def run(self, program: AnyProgram, /, *args: Any, **kwargs: Any) -> Finished:
        """Run a program and wait for it; raises what ended it. Cancelling cancels it."""
        return await self.follow(program, bound_arguments(program, args, kwargs))

    async def run_batch(
        self,
        program: AnyProgram,
        arguments: Sequence[Mapping[str, Any]],
        /,
        *,
        concurrency: int = 64,
        progress: bool = False,
        on_outcome: Callable[[int, Finished | Exception], None] | None = None,
    ) -> list[Finished | Exception]:
        """Run once for each mapping; as `Engine.run_batch`."""
        room = asyncio.Semaphore(max(1, concurrency))
        works = Works()
        bar = Progress(disable=not progress)
        task = bar.add_task(program.name, total=len(arguments))

        async def one(at: int, item: Mapping[str, Any]) -> Finished | Exception:
            async with room:
                try:
                    bound = bound_arguments(program, (), item)
                    outcome = await self.follow(program, bound, item=at, works=works)
                except EngineClosed:
                    raise
                except Exception as error:
                    outcome = error
            bar.advance(task)
            if on_outcome is not None:
                on_outcome(at, outcome)
            return outcome

        with bar:
            return await asyncio.gather(*(one(at, item) for at, item in enumerate(arguments)))

    async def generate(
        self, prompts: str | Sequence[str], *, progress: bool = False, **fields: Any
    ) -> list[Finished | Exception]:
        """Continue plain prompts; as `Engine.generate`."""
        return await self.run_batch(*plain_prompts(prompts, fields), progress=progress)

    async def stream(
        self, program: AnyProgram, /, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[Event | Finished, None]:
        """The events of a run as they come, and its result as the last item."""
        bound = bound_arguments(program, args, kwargs)
        found: asyncio.Queue[Event | None] = asyncio.Queue()
        running = asyncio.create_task(self.follow(program, bound, found.put_nowait))
        running.add_done_callback(lambda _: found.put_nowait(None))
        try:
            while (event := await found.get()) is not None:
                yield event
            yield running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def follow(
        self,
        program: AnyProgram,
        arguments: Mapping[str, Any],
        on_event: Callable[[Event], None] | None = None,
        **start: Unpack[Start],
    ) -> Finished:
        """As `run`, for those who say how the run is started. `on_event` is told of what happens,
        in this event loop; what it raises ends the run."""
        job = _Job(program, arguments, self._mail(), on_event, start)
        self._submit(job)
        try:
            outcome = await job.outcome
        finally:
            self._call(partial(self._cancel, job))  # one that is over stays as it is
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def stats(self) -> EngineStats:
        """Counters since the engine started, and what it holds now."""
        return await self._ask(self._engine.stats)

    async def audit(self) -> None:
        """Check every bookkeeping law; raises `AuditError`."""
        await self._ask(self._engine.audit)

    async def _ask(self, question: Callable[[], T]) -> T:
        """What the question gives on the engine's thread."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(set: Callable[[Any], None], value: Any) -> None:
            if not answer.done():
                set(value)

        def tell(set: Callable[[Any], None], value: Any) -> None:
            with suppress(RuntimeError):  # a loop that is gone has nobody to tell
                loop.call_soon_threadsafe(settle, set, value)

        def fail(error: Exception) -> None:
            tell(answer.set_exception, error)

        def ask() -> None:
            if answer.done():
                return  # nobody waits any more
            try:
                found = question()
            except Exception as error:
                fail(error)
            else:
                tell(answer.set_result, found)

        with self._gate:
            if self._stop:
                raise EngineClosed("the engine is closed")
            self._asked.add(fail)
            self._call(ask)
        try:
            return await answer
        finally:
            with self._gate:
                self._asked.discard(fail)

    def give_up(self, error: Exception) -> None:
        """Whoever waits for a run, or for an answer, gets that error, at once, also while a step
        does not end; the runs are cancelled, and the questions not put."""
        with self._gate:
            waited, asked = list(self._waited), list(self._asked)
        for job in waited:
            job.send(error)
        for fail in asked:
            fail(error)

    @property
    def alive(self) -> bool:
        """Whether its thread is there to run anything."""
        return self._thread.is_alive() and not self._stop

    async def close(self) -> None:
        """Cancel what runs, end the thread. Closing twice is fine."""
        self._call(self._shut)
        await asyncio.to_thread(self._thread.join)

    async def __aenter__(self) -> Self:
        """Inside, `await program.run(...)` runs here."""
        self._token = default.set_default(self)
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._token is not None:
            default.reset(self._token)
            self._token = None
        await self.close()

    # -- tasks that belong to no program

    @property
    def engine(self) -> Engine:
        """What is driven; the engine's thread alone may touch its core."""
        return self._engine

    def admit(self, guest: Guest) -> None:
        """Tell this object when the engine gives up; only as long as others hold it."""
        self._guests.add(guest)

    def post(self, call: Callable[[EngineCore], None]) -> None:
        """Make this call, which may not raise, on the engine's thread before its next step.

        Raises `EngineClosed`.
        """
        with self._gate:
            if self._stop:
                raise EngineClosed("the engine is closed")
            self._call(lambda: call(self._engine.core))

    async def ask(self, question: Callable[[EngineCore], T]) -> T:
        """The answer to a question that is put to the core on its thread, between two steps.

        Raises what the question raises, and `EngineClosed`.
        """
        return await self._ask(lambda: question(self._engine.core))

    def _submit(self, job: _Job) -> None:
        with self._gate:
            if self._stop:
                raise EngineClosed("the engine is closed")
            self._waited.add(job)
            self._call(partial(self._start, job))

    def _mail(self) -> Mail:
        """To the event loop that runs."""
        loop = asyncio.get_running_loop()
        if self._last_mail is None or self._last_mail.loop is not loop:
            self._last_mail = Mail(loop)
        return self._last_mail

    def _call(self, call: Callable[[], None]) -> None:
        self._calls.put(call)
        self._engine.ring()

    # -- on the thread

    def _work(self) -> None:
        try:
            while not self._stop:
                idle = not self._jobs and not self._engine.core.busy
                self._take_calls(wait=None if idle else 0.0)
                began = perf_counter()
                if self._round():
                    self._take_calls(wait=(perf_counter() - began) * _ROOM)
        finally:
            with self._gate:  # nothing is put into the queue after this
                self._stop = True
            self._take_calls(wait=0.0)
            self._fail_all(EngineClosed("the engine was closed"))

    def _round(self) -> bool:
        """Whether a run ended that is waited for."""
        ended: list[Run] = []
        try:
            ended = self._engine.round(self._jobs)
            for run in ended:
                self._jobs.pop(run).end(run.outcome())
        except Exception as error:
            self._engine.core.failing += 1
            self._fail_all(EngineError(f"the engine failed: {type(error).__name__}: {error}"))
        return bool(ended)

    def _take_calls(self, *, wait: float | None) -> None:
        """Those that are there, and those that come within so many seconds; None: at least one."""
        until = perf_counter() + (wait or 0.0)
        with suppress(Empty):
            if wait is None:
                self._calls.get()()
            while True:
                left = until - perf_counter()
                self._calls.get(block=left > 0, timeout=max(left, 0.0))()

    def _start(self, job: _Job) -> None:
        try:
            job.run = self._engine.start(
                job.program,
                job.arguments,
                on_event=job.on_event,
                variables=job.variables,
                **job.start,
            )
            self._jobs[job.run] = job
        except Exception as error:
            job.end(error)

    def _cancel(self, job: _Job) -> None:
        job.over = True
        if job.run is not None:
            job.run.abort()
            self._jobs.pop(job.run, None)

    def _fail_all(self, error: Exception) -> None:
        for job in list(self._jobs.values()):
            job.end(error)
            self._cancel(job)
        for guest in list(self._guests):
            guest.fail(error)

    def _shut(self) -> None:
        self._engine.close()
        with self._gate:
            self._stop = True


def _nothing() -> None:
    """A call that only wakes the thread."""

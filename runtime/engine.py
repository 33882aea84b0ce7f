"""The engine as its users see it: programs in, results out, in the caller's thread."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Context, Token
from functools import partial
from types import TracebackType
from typing import Any, Self

from rich.progress import Progress

from ramet import default
from ramet.errors import ArgumentError
from ramet.expressions import gen
from ramet.graph import Graph
from ramet.limits import Limits
from ramet.nodes import Node
from ramet.passes import fill
from ramet.program import Program
from ramet.runtime.chat import ChatFormat
from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore, EngineStats
from ramet.runtime.errors import EngineClosed
from ramet.runtime.events import Event
from ramet.runtime.lookahead import Lookahead
from ramet.runtime.models import Model, load_model
from ramet.runtime.result import Finished
from ramet.runtime.run import Run
from ramet.runtime.threads import apart
from ramet.runtime.tokenizer import Tokenizer
from ramet.runtime.works import Works
from ramet.state import State
from ramet.verify import verify

AnyProgram = Program[..., Any] | Graph

_NAP = 0.05  # seconds


class Engine:
    """One model with its block cache. `run`, `run_batch` and `stream` drive it until done.

    One thread at a time: calls from several are served one after the other. `AsyncEngine` runs
    programs that arrive at any time together.

        with Engine("smollm2-135m") as engine:
            print(tips.run(topic="tea").value)
    """

    def __init__(self, model: str | None = None, **settings: Any) -> None:
        """Load a model and take memory for its blocks.

        Args:
            model: what to load: an embedded model's name, a directory, a `.gguf` file, a hub id.
            settings: the fields of `EngineConfig`.

        Raises:
            ModelError: the model cannot be found or loaded.
            EngineError: a setting is out of range, or the device is not there.
        """
        if model is not None:
            settings["model"] = model
        config = EngineConfig(**settings)
        load = partial(
            load_model,
            config.model,
            dtype=config.dtype,
            cache=config.models,
            device=config.device,
        )
        loaded, directory = apart(load) if config.device == "cpu" else load()
        self._set_up(loaded, Tokenizer.load(directory, eos_ids=loaded.shape.eos), config)

    @classmethod
    def of(cls, model: Model, tokenizer: Tokenizer, config: EngineConfig | None = None) -> Self:
        """An engine on a model that is loaded already."""
        engine = cls.__new__(cls)
        engine._set_up(model, tokenizer, config or EngineConfig())
        return engine

    def _set_up(self, model: Model, tokenizer: Tokenizer, config: EngineConfig) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.core = EngineCore(model, tokenizer, config)
        self._chat = ChatFormat(tokenizer)
        self._lock = threading.RLock()
        self._closed = False
        self._abandoned: deque[Run] = deque()
        self._bell = threading.Event()
        self.core.grammars.on_over = self._bell.set
        self._ready: deque[Run] = deque()
        self._token: Token[default.Runner] | None = None

    # -- programs

    def run(self, program: AnyProgram, /, *args: Any, **kwargs: Any) -> Finished:
        """Run a program, or a request graph, and wait for it.

        Raises:
            LanguageError: wrong arguments, or the program is wrong.
            EngineError: it was refused, or failed while running.
        """
        with self._lock:
            run = self.start(program, bound_arguments(program, args, kwargs))
            self._drive([run])
            return run.result()

    def run_batch(
        self,
        program: AnyProgram,
        arguments: Sequence[Mapping[str, Any]],
        /,
        *,
        concurrency: int = 64,
        progress: bool = False,
        on_outcome: Callable[[int, Finished | Exception], None] | None = None,
    ) -> list[Finished | Exception]:
        """Run once for each mapping of arguments, together; the results are in the same order.

        A run that fails leaves its error in its place and does not end the others. Item i draws
        with the program's seed, or the engine's, plus i.

        Args:
            concurrency: most programs under way at once.
            progress: show a bar.
            on_outcome: is told each item's number and outcome, as soon as it is over.
        """
        with self._lock:
            return self._batch(program, arguments, concurrency, progress, on_outcome)

    def _batch(
        self,
        program: AnyProgram,
        arguments: Sequence[Mapping[str, Any]],
        concurrency: int,
        progress: bool,
        on_outcome: Callable[[int, Finished | Exception], None] | None,
    ) -> list[Finished | Exception]:
        outcomes: list[Finished | Exception | None] = [None] * len(arguments)
        ended = 0

        def over(at: int, outcome: Finished | Exception) -> None:
            nonlocal ended
            ended += 1
            outcomes[at] = outcome
            if on_outcome is not None:
                on_outcome(at, outcome)

        waiting = deque(enumerate(arguments))
        works = Works()
        ahead = Lookahead(self.core, self._chat, program, max(1, concurrency))
        active: dict[Run, int] = {}
        try:
            with Progress(disable=not progress) as bar:
                task = bar.add_task(program.name, total=len(arguments))
                while waiting or active:
                    while waiting and len(active) < max(1, concurrency):
                        at, item = waiting.popleft()
                        ahead.started(at)
                        try:
                            bound = bound_arguments(program, (), item)
                            active[self.start(program, bound, item=at, works=works)] = at
                        except Exception as error:
                            over(at, error)
                    ahead.look(waiting)
                    for run in self.round(active):
                        over(active.pop(run), run.outcome())
                    bar.update(task, completed=ended)
        finally:
            ahead.close()
            for run in active:
                run.abort()
        return [outcome for outcome in outcomes if outcome is not None]

    def stream(self, program: AnyProgram, /, *args: Any, **kwargs: Any) -> "Stream":
        """Run a program and hand out its events while it runs."""
        return Stream(self, program, bound_arguments(program, args, kwargs))

    def generate(
        self, prompts: str | Sequence[str], *, progress: bool = False, **fields: Any
    ) -> list[Finished | Exception]:
        """Continue plain prompts, without writing a program; the text is `result["text"]`, or the
        value, if it has a type.

        Args:
            fields: those that `gen` takes: how to draw, and what the text must be.
        """
        return self.run_batch(*plain_prompts(prompts, fields), progress=progress)

    def start(
        self,
        program: AnyProgram,
        arguments: Mapping[str, Any],
        *,
        item: int = 0,
        on_event: Callable[[Event], None] | None = None,
        variables: Context | None = None,
        works: Works | None = None,
        seed: int | None = None,
        limits: Limits | None = None,
        scope: bytes = b"",
        guard: Callable[[Node], None] | None = None,
    ) -> Run:
        """A run that is moved on by hand: call `round` with it until it is done.

        Args:
            item: its number in a batch, which is added to the seed.
            works: those of the batch, so that identical work in it is done once.
            variables: the context variables that its body sees; those of here, if not given.
            seed: instead of the program's own, or the engine's.
            limits: instead of the engine's.
            scope: whose blocks it shares: those of runs with another scope it never sees.
            guard: is shown every node before it is taken, and raises to refuse it.
        """
        if self._closed:
            raise EngineClosed("the engine is closed")
        if seed is None and isinstance(program, Program):
            seed = program.seed
        run = Run(
            self.core,
            self._chat,
            _filled(program, arguments),
            arguments,
            seed=(self.config.seed if seed is None else seed) + item,
            on_event=on_event,
            variables=variables,
            scope=scope,
            limits=limits or self.config.limits,
            works=works,
            guard=guard,
            on_ready=partial(_is_ready, self._ready, self._bell),
        )
        self._ready.append(run)
        return run

    def _drive(self, runs: Sequence[Run]) -> None:
        active = list(runs)
        while active:
            self.round(active)
            active = [run for run in active if not run.done]

    def round(self, active: Collection[Run]) -> list[Run]:
        """Move on those of the runs that can go on, run one step, and move on those that can then:
        what ended with the step is told before the next one. Gives up all of them if stopped.
        Gives those that ended.

        Takes time for the runs that can go on, and none for those that wait. Where all of them wait
        for a type to be compiled, it sleeps until one is, or somebody rings.

        Args:
            active: runs of this engine, the longest under way first.
        """
        self._reap()
        self.core.grammars.deliver()
        try:
            moved = self._move(active)
            if self.core.busy:
                self.core.step()
                moved += self._move(active)
            elif self.core.grammars.awaited and not moved:
                self._sleep()
        except BaseException:
            for run in active:
                run.abort()
            raise
        found = dict.fromkeys(moved)
        for run in found:
            if run.paused:
                run.wake()
        return [run for run in found if run.done]

    def _move(self, active: Collection[Run]) -> list[Run]:
        """Move on those that can go on until none can; gives those that ended, or paused."""
        moved: list[Run] = []
        while ready := self._able(active):
            for run in ready:
                run.advance()
            moved += [run for run in ready if run.done or run.paused]
        return moved

    def ring(self) -> None:
        """There is something to do: `round` sleeps no longer. From any thread."""
        self._bell.set()

    def _sleep(self) -> None:
        """Until somebody rings; now and then runs are to be looked at that may be late."""
        self._bell.wait(_NAP)
        self._bell.clear()

    def _able(self, active: Collection[Run]) -> list[Run]:
        """Those of the runs that can go on. Others that can are left to whoever drives them."""
        for run in active:
            if run.late:
                run.wake()
            elif not run.done:
                break  # those that began later are not late either
        ready = [self._ready.popleft() for _ in range(len(self._ready))]
        mine = {run: run in active for run in ready if not run.done}
        self._ready.extend(run for run in mine if not mine[run])
        return [run for run in mine if mine[run]]

    def abandon(self, run: Run) -> None:
        """Nobody waits for this run any more; it is aborted before the next step. From anywhere."""
        self._abandoned.append(run)
        self.ring()

    def _reap(self) -> None:
        while self._abandoned:
            self._abandoned.popleft().abort()

    # -- the house

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def turn(self) -> AbstractContextManager[Any]:
        """Held by the thread that drives the engine; who calls `round` by hand takes it."""
        return self._lock

    def stats(self) -> EngineStats:
        self._reap()
        return self.core.stats()

    def audit(self) -> None:
        """Check every bookkeeping law; raises `AuditError`."""
        self._reap()
        self.core.audit()

    def close(self) -> None:
        """Take no more work, and end the threads. Closing twice is fine."""
        self._closed = True
        self.ring()
        with self._lock:
            self._reap()
            self.core.grammars.close()

    def __enter__(self) -> Self:
        self._token = default.set_default(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            default.reset(self._token)
            self._token = None
        self.close()


class Stream(Iterator[Event]):
    """The events of a run; `result()` when they are through. For one thread.

    Closing it early, or dropping it, cancels the run.
    """

    def __init__(self, engine: Engine, program: AnyProgram, arguments: Mapping[str, Any]) -> None:
        self._events: deque[Event] = deque()
        self._engine = engine
        self._run = engine.start(program, arguments, on_event=self._events.append)

    def __next__(self) -> Event:
        with self._engine._lock:
            while not self._events and not self._run.done:
                self._engine.round([self._run])
        if self._events:
            return self._events.popleft()
        if self._run.error is not None:
            raise self._run.error
        raise StopIteration

    def result(self) -> Finished:
        """Run on to the end; events that nobody took are dropped."""
        for _ in self:
            pass
        return self._run.result()

    def close(self) -> None:
        """Cancel the run, if it is not over."""
        with self._engine._lock:
            self._run.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_run") and not self._run.done:
            self._engine.abandon(self._run)


def _is_ready(ready: deque[Run], bell: threading.Event, run: Run) -> None:
    ready.append(run)
    bell.set()


def _filled(program: AnyProgram, arguments: Mapping[str, Any]) -> AnyProgram:
    """A graph has no inputs left when it runs; `GraphError`, `ArgumentError` as `fill`."""
    if isinstance(program, Program) or not (arguments or program.inputs):
        return program
    verify(program)
    return fill(program, arguments)


def plain_prompts(
    prompts: str | Sequence[str], fields: Mapping[str, Any]
) -> tuple[AnyProgram, list[dict[str, str]]]:
    """A program that continues its prompt, and its arguments for each of the prompts."""
    text = gen("text", **fields)

    def body(s: State, prompt: str) -> None:
        s += prompt
        s += text

    items = [{"prompt": p} for p in ([prompts] if isinstance(prompts, str) else prompts)]
    return Program(body, "generate", pure=True), items


def bound_arguments(
    program: AnyProgram, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The arguments by name; a program checks them here, a request graph where it is filled."""
    if isinstance(program, Program):
        return program.bind_arguments(*args, **kwargs)
    if not isinstance(program, Graph):
        raise ArgumentError(
            f"{program!r} is neither a program nor a request graph; "
            "is a function missing its @ramet.program?"
        )
    if args:
        raise ArgumentError("a request graph takes its arguments by name")
    return kwargs

"""One run of a program: its body, its nodes and its result."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from typing import Any

from greenlet import GreenletExit

from ramet.callsite import callsite
from ramet.errors import LimitError, RametError
from ramet.graph import Graph, resolve
from ramet.limits import Limits
from ramet.meter import Meter
from ramet.nodes import Node, Ref, Result
from ramet.program import Program
from ramet.recorder import GraphRecorder
from ramet.runtime.admission import admit
from ramet.runtime.chat import ChatFormat
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import Aborted, EngineError, GenerationError
from ramet.runtime.events import Event
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.result import Finished, state_of
from ramet.runtime.steps import RUN
from ramet.runtime.strands import Strands
from ramet.runtime.works import Works
from ramet.verify import check_result, verify


class Run(GraphRecorder):
    """A program on its way through an engine; `advance` moves it on, whenever it is `ready`.

    A run that becomes ready while nobody moves it on tells `on_ready`, once, from any thread.

    Raises:
        what `verify`, `admit` or `bind_arguments` raise, before anything runs.
    """

    def __init__(
        self,
        core: EngineCore,
        chat: ChatFormat,
        program: Program[..., Any] | Graph,
        arguments: Mapping[str, Any],
        *,
        seed: int,
        on_event: Callable[[Event], None] | None = None,
        scope: bytes = b"",
        variables: Context | None = None,
        limits: Limits | None = None,
        works: Works | None = None,
        guard: Callable[[Node], None] | None = None,
        on_ready: Callable[["Run"], None] = lambda run: None,
    ) -> None:
        self.name = program.name
        self.done = False
        self.ready = True
        self._on_ready = on_ready
        self._guard = guard
        meter, works = Meter(limits or Limits()), works or Works()
        self._interpreter = Interpreter(
            core, chat, RUN, seed, meter, works, on_event, scope, self.wake, self.name
        )
        self._result: Result = None
        self._value: object = None
        self._dropped: deque[int] = deque()
        self._strands = Strands(self._interpreter.is_settled)
        super().__init__(meter)
        if isinstance(program, Graph):
            verify(program)
            admit(core, program)
            for node in program.nodes[1:]:
                self.add(node)
            self._end_of_program(program.result)
        else:
            meter.pause = self._strands.pause
            self._strands.start(lambda: self._record(program, arguments), variables)
            if program.pure:
                self._admit(core)

    def _admit(self, core: EngineCore) -> None:
        """Let the body record what it can before anything runs, and hold that against the room."""
        self.meter.begin_slice()
        self._strands.run()
        try:
            admit(core, Graph(self.name, self.nodes))
        except EngineError as error:
            self._interpreter.fail(error)
            self._finish()
            raise

    def advance(self) -> None:
        """Run the body and the states until all of them wait for the engine, or it is over."""
        self.ready = True
        while not self.done:
            self._go_on()
            self._interpreter.pump()
            if self._interpreter.error is not None or self._interpreter.over:
                self._finish()
            elif self._strands.paused or not self._strands.ready:
                break
        self.ready = False
        if self._dropped and not self.done:  # by another thread, since they were looked at
            self.wake()

    @property
    def paused(self) -> bool:
        """Whether its body has more to compute, and lets others go first."""
        return self._strands.paused and not self.done

    def wake(self) -> None:
        """There is something to do; from any thread."""
        if not self.ready and not self.done:
            self.ready = True
            self._on_ready(self)

    @property
    def late(self) -> bool:
        """Whether it is over its time, and not ended yet."""
        return not self.done and self.meter.late

    def _go_on(self) -> None:
        try:
            self.meter.check_time()
            self.meter.begin_slice()
            self._strands.run()
            while self._dropped:
                self._interpreter.retire(self._dropped.popleft())
        except LimitError as error:
            self._interpreter.fail(error)
        if self._strands.over and not self._interpreter.whole:
            self._end_of_body(self._strands.error)

    def abort(self) -> None:
        """Cancel: everything is given back at once, and `result` raises `Aborted`."""
        if not self.done:
            self.ready = True
            self._interpreter.fail(Aborted(f"the run of {self.name!r} was cancelled"))
            self._finish()

    def result(self) -> Finished:
        """What the program came to.

        Raises:
            what ended it, if it failed. `partial` gives what there was all the same.
        """
        assert self.done, "the run is not over"
        if (error := self.error) is not None:
            if isinstance(error, RametError):
                error.partial = self.partial()
            raise error
        return self.partial()

    def outcome(self) -> Finished | Exception:
        """`result`, with the error given instead of raised."""
        try:
            return self.result()
        except Exception as error:
            return error

    @property
    def error(self) -> Exception | None:
        return self._interpreter.error

    def partial(self) -> Finished:
        """The states as far as they came."""
        interpreter = self._interpreter
        failed = interpreter.error is not None
        graph = Graph(self.name, self.nodes, None if failed else self._result)
        return Finished(value=self._value, graph=graph, root=state_of(interpreter.root))

    # -- what the body calls

    def add(self, node: Node) -> int:
        if self._guard is not None:
            self._guard(node)
        id = super().add(node)
        self._interpreter.accept(id, node)
        return id

    def read(self, node: int) -> object:
        self._wait_for(node)
        return self._interpreter.value(node)

    def info(self, node: int) -> object:
        self._wait_for(node)
        return self._interpreter.info(node)

    def dropped(self, node: int) -> None:
        self._dropped.append(node)
        self.wake()

    def together(self, bodies: Sequence[Callable[[], None]]) -> None:
        self._strands.together(bodies)

    def _wait_for(self, node: int) -> None:
        try:
            if not self._interpreter.has_value(node) and self._strands.wait(node):
                self._interpreter.has_value(node)  # raises if it will never come
            elif not self._interpreter.has_value(node):
                super().read(node)
        except GenerationError as error:
            if (span := callsite()) is not None:
                error.add_note(f"in the program at {span}")
            raise

    # -- the body

    def _record(self, program: Program[..., Any], arguments: Mapping[str, Any]) -> None:
        result = program.record(self, arguments)
        check_result(self._ledger, result)
        self._end_of_program(result)

    def _end_of_program(self, result: Result) -> None:
        self._result = result
        self._interpreter.close()

    def _end_of_body(self, error: BaseException | None) -> None:
        """The body is over without having come to its end."""
        match error:
            case KeyboardInterrupt():
                raise error
            case Exception():
                self._interpreter.fail(error)
            case None | GreenletExit():
                self._fail_body("ended without returning", None)
            case _:  # a body that exits ends its own run, and no other
                self._fail_body(f"raised {type(error).__name__}", error)

    def _fail_body(self, what: str, cause: BaseException | None) -> None:
        failure = GenerationError(f"the body of program {self.name!r} {what}")
        failure.__cause__ = cause
        self._interpreter.fail(failure)

    def _finish(self) -> None:
        self.done = True
        if self.error is None:
            try:
                self._value = self._returned()
            except Exception as error:
                self._interpreter.fail(error)
        self._strands.close()
        self._interpreter.fall_silent()
        self.meter.pause = None

    def _returned(self) -> object:
        if self._result is None:
            return dict(self._interpreter.root.values)
        return resolve(self._result, self._look)

    def _look(self, ref: Ref) -> object:
        """What it stands for; a text counts wherever it stands."""
        self._interpreter.has_value(ref.node)  # raises where a keep released it
        if ref.attribute is None:
            found = self._interpreter.value(ref.node)
        else:
            found = getattr(self._interpreter.info(ref.node), ref.attribute)
        self.meter.made(len(found) if isinstance(found, str) else 1)
        return found

"""One run of a program: its body, its nodes and its result.

An embedded body runs in a greenlet. When it looks at a value that is not there yet it switches
back to the loop, and is switched to again once the value is there: it waits like a thread would,
without one.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

from greenlet import greenlet

from ramet.graph import Graph, resolve
from ramet.nodes import Node, Ref, Result
from ramet.program import Program
from ramet.recorder import GraphRecorder
from ramet.runtime.chat import ChatFormat
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import Aborted, GenerationError
from ramet.runtime.events import Event
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.result import Finished, state_of
from ramet.runtime.steps import RUN
from ramet.verify import check_result, verify


class Run(GraphRecorder):
    """A program on its way through an engine; `advance` after every step moves it on.

    Raises:
        what `verify` or `bind_arguments` raise, before anything runs.
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
    ) -> None:
        self.name = program.name
        self.done = False
        self._interpreter = Interpreter(core, chat, RUN, seed, on_event, scope)
        self._result: Result = None
        self._value: object = None
        self._reading: int | None = None
        self._body: greenlet | None = None
        self._loop = greenlet.getcurrent()  # what drives the run
        super().__init__()
        if isinstance(program, Graph):
            verify(program)
            for node in program.nodes[1:]:
                self.add(node)
            self._end_of_program(program.result)
        else:
            self._body = greenlet(lambda: self._record(program, arguments))
            self._body.gr_context = variables or copy_context()  # a greenlet starts without any

    def advance(self) -> None:
        """Run the body and the states until all of them wait for the engine, or it is over."""
        while not self.done:
            if self._body is not None and self._can_go_on():
                self._switch()
            self._interpreter.pump()
            if self._interpreter.error is not None or self._interpreter.over:
                self._finish()
            elif not self._can_go_on():
                return

    def abort(self) -> None:
        """Cancel: everything is given back at once, and `result` raises `Aborted`."""
        if not self.done:
            self._interpreter.fail(Aborted(f"the run of {self.name!r} was cancelled"))
            self._finish()

    def result(self) -> Finished:
        """What the program came to.

        Raises:
            what ended it, if it failed. `partial` gives what there was all the same.
        """
        assert self.done, "the run is not over"
        if self._interpreter.error is not None:
            raise self._interpreter.error
        return self.partial()

    def outcome(self) -> Finished | Exception:
        """`result`, with the error given instead of raised."""
        return self.partial() if self.error is None else self.error

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
        id = super().add(node)
        self._interpreter.accept(id, node)
        return id

    def read(self, node: int) -> object:
        self._wait_for(node)
        return self._interpreter.value(node)

    def info(self, node: int) -> object:
        self._wait_for(node)
        return self._interpreter.info(node)

    def _wait_for(self, node: int) -> None:
        while not self._interpreter.has_value(node):
            if greenlet.getcurrent() is not self._body:
                super().read(node)
            self._reading = node
            self._loop.switch()
        self._reading = None

    # -- the body

    def _record(self, program: Program[..., Any], arguments: Mapping[str, Any]) -> None:
        result = program.record(self, arguments)
        check_result(self._ledger, result)
        self._end_of_program(result)

    def _end_of_program(self, result: Result) -> None:
        self._result = result
        self._interpreter.close()

    def _can_go_on(self) -> bool:
        if self._body is None or self._body.dead:
            return False
        return self._reading is None or self._interpreter.has_value(self._reading)

    def _switch(self) -> None:
        assert self._body is not None, "a graph has no body"
        self._body.parent = self._loop = greenlet.getcurrent()
        try:
            self._body.switch()
        except KeyboardInterrupt:
            raise
        except Exception as error:
            self._interpreter.fail(error)
        except BaseException as error:  # a body that exits ends its own run, and no other
            self._fail_body(f"raised {type(error).__name__}", error)
        if self._body.dead and not self._interpreter.whole:
            self._fail_body("ended without returning", None)

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
        if self._body:
            self._body.parent = self._loop = greenlet.getcurrent()
            with suppress(Exception):  # the run has its outcome; what unwinding raises is no part
                self._body.throw()  # unwinds the body; nobody else can switch to it again

    def _returned(self) -> object:
        if self._result is None:
            return dict(self._interpreter.root.values)
        return resolve(self._result, self._look)

    def _look(self, ref: Ref) -> object:
        self._interpreter.has_value(ref.node)  # raises where a keep released it
        if ref.attribute is None:
            return self._interpreter.value(ref.node)
        return getattr(self._interpreter.info(ref.node), ref.attribute)

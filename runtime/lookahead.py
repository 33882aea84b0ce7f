"""What the next items of a batch will begin with, told to the block cache before they start.

Each item's program is recorded up to the first node that is more than text, and that text is
encoded as the interpreter will do it. Knows programs and the interpreter's steps; schedules
nothing. A body in Python is user code and may do anything, so it is never run ahead of its turn:
only a request graph is recorded, and a program that says of itself that it is `pure`.
"""

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

from ramet.cache import Expectation
from ramet.graph import Graph
from ramet.limits import Limits
from ramet.meter import Meter
from ramet.nodes import Close, Node, Open, Root, Text
from ramet.program import Program
from ramet.recorder import GraphRecorder
from ramet.runtime.chat import ChatFormat
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import PromptError
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.steps import RUN
from ramet.runtime.works import Works

REACH = 4  # times as many items are looked at as run at once

Item = tuple[int, Mapping[str, Any]]


class Lookahead:
    """The expectations of one batch. An item's number is its place in the queue."""

    def __init__(
        self,
        core: EngineCore,
        chat: ChatFormat,
        program: Program[..., Any] | Graph,
        concurrency: int,
    ) -> None:
        """`concurrency` items run at once."""
        self._core = core
        self._chat = chat
        self._program = program
        self._reach = REACH * concurrency if _is_pure(program) else 0
        self._expected: dict[int, Expectation] = {}

    def look(self, waiting: Collection[Item]) -> None:
        """Expect the first of the waiting items, if the cache is so full that it matters."""
        if len(self._expected) >= min(self._reach, len(waiting)) or not self._core.crowded:
            return
        for at, arguments in islice(waiting, self._reach):
            if at not in self._expected:
                tokens = opening(self._core, self._chat, self._program, arguments)
                self._expected[at] = self._core.expect(tokens, at)

    def started(self, at: int) -> None:
        """That item waits no longer."""
        if expectation := self._expected.pop(at, None):
            expectation.drop()

    def close(self) -> None:
        """Nothing of the batch is expected any more."""
        for at in list(self._expected):
            self.started(at)


def opening(
    core: EngineCore,
    chat: ChatFormat,
    program: Program[..., Any] | Graph,
    arguments: Mapping[str, Any],
) -> list[int]:
    """The tokens that a run will begin with, as far as that can be known; perhaps none.

    Where something other than a `gen` follows, the last of them may turn out otherwise: text that
    comes later is encoded together with what stands before it.
    """
    recorder = _Opening(core, chat)
    try:
        if isinstance(program, Graph):
            for node in program.nodes[1:]:
                recorder.add(node)
        else:
            program.record(recorder, program.bind_arguments(**arguments))
    # Nothing may fail for a hint: an item that is wrong says so when it starts.
    except Exception:
        pass
    return recorder.tokens()


def _is_pure(program: Program[..., Any] | Graph) -> bool:
    return isinstance(program, Graph) or program.pure


class _Beyond(Exception):
    """The opening is over."""


class _Opening(GraphRecorder):
    """Runs the text at the start of a program; raises at the first node that is more, and at all
    that come after it: a body that unwinds still closes its turns."""

    def __init__(self, core: EngineCore, chat: ChatFormat) -> None:
        self._tokenizer = core.tokenizer
        self._interpreter = Interpreter(core, chat, RUN, 0, Meter(Limits()), Works())
        self._over = False
        super().__init__()

    def add(self, node: Node) -> int:
        self._over = self._over or not isinstance(node, Root | Text | Open | Close)
        if self._over:
            raise _Beyond
        id = super().add(node)
        self._interpreter.accept(id, node)
        self._interpreter.pump()
        return id

    def tokens(self) -> list[int]:
        """Of the text so far; none if it cannot be encoded."""
        try:
            return self._tokenizer.encode(self._interpreter.root.pending, start=True)
        except PromptError:
            return []

"""One state of a running program, with a worker that moves it on.

What is appended goes into a queue. A worker thread takes it from there; it lives only as long as
there is something in the queue, so a state that nobody drops costs no thread. Knows no engine:
what goes on with a text is the backend.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ramet.compat.sglang import expressions as sgl
from ramet.compat.sglang.backend.base_backend import BaseBackend
from ramet.compat.sglang.chat_template import ChatTemplate
from ramet.compat.sglang.sampling import SglSamplingParams
from ramet.compat.sglang.writing import StateWriter


class Chunk(NamedTuple):
    """What came since one looked last, and whether that is all."""

    text: str
    done: bool


class StreamExecutor(StateWriter):
    """A state, as programs and backends see it."""

    def __init__(
        self,
        backend: BaseBackend,
        arguments: Mapping[str, Any] | None = None,
        default_sampling_para: SglSamplingParams | None = None,
        chat_template: ChatTemplate | None = None,
        stream: bool = False,
        num_api_spec_tokens: int | None = None,
        use_thread: bool = True,
        *,
        place: str = "",
    ) -> None:
        super().__init__(
            backend,
            arguments,
            default_sampling_para,
            chat_template,
            stream,
            num_api_spec_tokens,
            place,
        )
        self.use_thread = use_thread
        self.is_finished = False
        self.body: threading.Thread | None = None  # that runs the program, if it streams
        self._forks = 0
        self._branches: weakref.WeakSet[StreamExecutor] = weakref.WeakSet()
        self._queue: deque[Any] = deque()
        self._working = False
        self._ended = False
        backend.begin_program(self)

    # -- what a program does

    def submit(self, expr: Any) -> None:
        """Append; returns at once. Text alone is appended here and now, if nothing is before it.

        Without threads all of it is done here, and raises what goes wrong.
        """
        with self._changed:
            if self.error_ is not None:
                return
            self._announce(expr)
            self._notify()
            if isinstance(expr, str) and not self._working:
                self._fill(expr)
                return
            if self.use_thread:
                self._queue.append(expr)
                self._start()
                return
        self._take(expr)
        if self.error_ is not None:
            raise self.error_

    def _start(self) -> None:
        if not self._working:
            self._working = True
            name = f"sgl-state-{self.sid[:8]}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def sync(self) -> None:
        """Wait until everything that was appended is done, or has failed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._working)

    def get_var(self, name: Any) -> Any:
        """Wait for a variable.

        Raises:
            KeyError: there is none of that name.
            Exception: what ended the state, or the branch, that was to set it.
        """
        if (event := self._event(name)) is not None:
            event.wait()
        if name in self.variables:
            return self.variables[name]
        error = self.lost.get(name) or self.error_
        raise KeyError(name) if error is None else error

    def _event(self, name: Any) -> threading.Event | None:
        """Set when the variable has its value; None if nothing will set one.

        Who reads a stream may come before the body, which runs apart, has said what it will set.
        """
        with self._changed:
            if self.body not in (None, threading.current_thread()):
                self._changed.wait_for(
                    lambda: self._ended or name in self.variable_event or name in self.variables
                )
            return self.variable_event.get(name)

    def set_var(self, name: Any, value: Any) -> None:
        self.variables[name] = value

    def get_meta_info(self, name: Any, timeout: float | None = None) -> Any:
        """Wait for a generation and what is known about it; None for a name that has none.

        Raises `TimeoutError` after that many seconds, and what ended the state.
        """
        event = self._event(name)
        if event is not None and not event.wait(timeout):
            raise TimeoutError(f"{name!r} has no value after {timeout} s")
        if event is not None and name not in self.meta_info and self.error_ is not None:
            raise self.error_
        return self.meta_info.get(name)

    def text(self) -> str:
        self.sync()
        return self.text_

    def messages(self) -> list[dict[str, Any]]:
        self.sync()
        return self.messages_

    def error(self) -> BaseException | None:
        self.sync()
        return self.error_

    def fork(
        self, size: int = 1, position_ids_offset: list[int] | None = None
    ) -> "list[StreamExecutor]":
        """Branches with all that is here. Waits for the queue."""
        self.sync()
        if size > 1 and self.text_:
            self.submit(sgl.SglCommitLazy())
            self.sync()
        self._forks += 1
        return [self._branch(index, position_ids_offset) for index in range(int(size))]

    def end(self) -> None:
        """Nothing more will be appended, to the branches neither; what waits is still done."""
        for branch in list(self._branches):
            branch.end()
        with self._changed:
            if self._ended:
                return
            self._ended = True
            self._notify()
            if self._working:
                return
        self._finish()

    def fail(self, error: BaseException) -> None:
        """End the state: what waits is dropped, and who reads it gets the error."""
        with self._changed:
            self.error_ = self.error_ or error
            self._queue.clear()
            for name, event in self.variable_event.items():
                if not event.is_set():
                    self.variables.pop(name, None)
                    self.lost[name] = self.error_
                    event.set()
            self._notify()

    # -- watching it grow

    def poll(self, name: Any, seen: int) -> Chunk | None:
        """What came after `seen` characters of the text (`name` None) or of a variable.

        None: nothing yet. Raises what ended the state before it was complete.
        """
        with self._changed:
            if name is None:
                done, text = self.is_finished, self.text_
            else:
                event = self.variable_event.get(name)
                set_ = event.is_set() if event is not None else name in self.variables
                done, text = set_ or self.is_finished, str(self.variables.get(name, ""))
            new = text[seen:]
            failed = self.error_ is not None and (name is None or name not in self.variables)
            if done and failed and not new:
                raise self.error_ or KeyError(name)
            return Chunk(new, done and not failed) if new or done else None

    def wait_for_change(self, name: Any, seen: int) -> Chunk:
        """`poll`, as soon as it has something."""
        with self._changed:
            while (chunk := self.poll(name, seen)) is None:
                self._changed.wait()
            return chunk

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call this whenever something came, from any thread."""
        with self._changed:
            self._watchers.add(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        with self._changed:
            self._watchers.discard(watcher)

    # -- the worker

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    if not self._ended:
                        self._working = False
                        self._notify()
                        return
                    break
                expr = self._queue.popleft()
            self._take(expr)
        self._finish()
        with self._changed:
            self._working = False
            self._notify()

    def _take(self, expr: Any) -> None:
        try:
            self._execute(expr)
        except BaseException as error:
            self.fail(error)

    def _finish(self) -> None:
        try:
            self.backend.end_program(self)
        except Exception as error:
            self.fail(error)
        with self._changed:
            self.is_finished = True
            self._notify()

    def _branch(self, index: int, offset: list[int] | None) -> "StreamExecutor":
        child = StreamExecutor(
            self.backend,
            self.arguments,
            self.default_sampling_para,
            self.chat_template,
            self.stream,
            use_thread=self.use_thread,
            place=f"{self.place}/{self.steps}.{self._forks}.{index}",
        )
        self._copy_to(child)
        child.body = self.body
        self._branches.add(child)
        self.backend.fork_program(self, child, offset)
        return child


def chunks(executor: StreamExecutor, name: Any = None) -> Iterator[str]:
    """The text, or one variable, in pieces as they come."""
    seen, done = 0, False
    while not done:
        text, done = executor.wait_for_change(name, seen)
        seen += len(text)
        if text:
            yield text

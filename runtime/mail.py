"""What threads tell an event loop: delivered there in order, and many messages wake it once.

To wake a loop costs a system call, in which the thread that wakes it lets go of the interpreter.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

AT_ONCE = 256
"""Messages after which a loop looks at what else there is to do."""


class Mail:
    """From any thread to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._rung = False  # the loop is going to take what waits

    def post(self, take: Callable[[T], None], item: T) -> None:
        """The loop calls `take`, which may not raise, with this item. One that is gone has nobody
        to tell."""
        self._waiting.append((take, item))
        if not self._rung:
            self._ring()

    def _ring(self) -> None:
        self._rung = True
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._rung = False
        for _ in range(AT_ONCE):
            if not self._waiting:
                return
            take, item = self._waiting.popleft()
            take(item)
        if self._waiting and not self._rung:
            self._ring()

"""Threads of the server's own for what takes time and is no run: reading, checking and planning
programs. Knows no program.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from ramet.runtime.server.errors import Refused

T = TypeVar("T")

THREADS = 2


class Aside:
    """So much work at once, done or waiting; more is refused."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._room = threading.BoundedSemaphore(most)
        self._threads = ThreadPoolExecutor(THREADS, "ramet-aside")

    async def do(self, work: Callable[[], T]) -> T:
        """What the work gives. Who stops waiting for it does not stop it: it counts until its end.

        Raises:
            Refused: there is too much already.
        """
        if not self._room.acquire(blocking=False):
            raise Refused(
                503,
                f"{self._most:,} programs are being read already; try again",
                code="too_much_to_read",
                retry=1,
            )
        future: Future[T] = self._threads.submit(copy_context().run, work)
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Take no more, and leave what has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

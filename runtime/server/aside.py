"""Threads of the server's own for what takes time and is no run: reading, checking and planning
programs. Knows no program.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.errors import Refused

T = TypeVar("T")

THREADS = 2


class Aside:
    """So much work at once, done or waiting; more is refused. Of one tenant half of that, where
    there are several."""

    def __init__(self, most: int, *, shared: bool = False) -> None:
        self._most = most
        self._of_one = max(1, most // 2) if shared else most
        self._of: Counter[str] = Counter()  # by tenant
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "ramet-aside")

    async def do(self, tenant: Tenant, work: Callable[[], T]) -> T:
        """What the work gives. Who stops waiting for it does not stop it: it counts until its end.

        Raises:
            Refused: there is too much already, of the tenant's or in all.
        """
        self._take(tenant.name)
        future: Future[T] = self._threads.submit(copy_context().run, work)
        future.add_done_callback(lambda _: self._over(tenant.name))
        return await asyncio.wrap_future(future)

    def _take(self, tenant: str) -> None:
        with self._lock:
            total, own = self._of.total(), self._of[tenant]
            if total < self._most and own < self._of_one:
                self._of[tenant] += 1
                return
        most = self._most if total >= self._most else self._of_one
        whose = "" if total >= self._most else " of yours"
        raise Refused(
            503,
            f"{most:,} programs{whose} are being read already; try again",
            code="too_much_to_read",
            retry=1,
        )

    def _over(self, tenant: str) -> None:
        with self._lock:
            self._of[tenant] -= 1
            if not self._of[tenant]:
                del self._of[tenant]

    def close(self) -> None:
        """Take no more, and leave what has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

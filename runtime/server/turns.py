"""Whose run goes next: so many at once, a bounded queue, tenants one after the other.

Knows no engine: a turn is the right to run one program.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused

Waiter = asyncio.Future[None]


class Turns:
    """For one event loop."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._queues: dict[str, deque[Waiter]] = {}  # by tenant, the next one first
        self._of: Counter[str] = Counter()  # reserved, waiting and running, by tenant
        self._under_way: Counter[str] = Counter()  # by tenant
        self._shared = len({*config.keys.values()}) > 1  # there are several tenants
        self.running = 0
        self.waiting = 0
        self.closed = False  # the server drains
        self._idle = asyncio.Event()
        self._idle.set()

    def check(self, tenant: Tenant, runs: int = 1) -> None:
        """Raise `Refused` if so many more of the tenant would not be taken now."""
        if self.closed:
            raise Refused(
                503, "the server is shutting down", code="draining", retry=self._config.drain_s
            )
        if self._of[tenant.name] + runs > self._config.tenant:
            raise Refused(
                429,
                f"{self._of[tenant.name]} of your runs are under way or wait, of "
                f"{self._config.tenant} that can; wait for one to end",
                code="too_many_runs",
                retry=1,
            )
        if self._of.total() + runs > self._config.running + self._config.queue:
            raise Refused(503, "the queue is full; try again", code="queue_full", retry=1)

    def reserve(self, tenant: Tenant, runs: int = 1) -> None:
        """Count so many more, until they are released; `Refused` as `check`."""
        self.check(tenant, runs)
        self._of[tenant.name] += runs
        self._idle.clear()

    def release(self, tenant: Tenant, runs: int = 1) -> None:
        """So many that were reserved are over."""
        self._of[tenant.name] -= runs
        if not self._of[tenant.name]:
            del self._of[tenant.name]
        if not self._of:
            self._idle.set()

    @contextmanager
    def reserved(self, tenant: Tenant, runs: int = 1) -> Generator[None, None, None]:
        """Inside, so many more are reserved; `Refused` as `check`."""
        self.reserve(tenant, runs)
        try:
            yield
        finally:
            self.release(tenant, runs)

    @asynccontextmanager
    async def turn(self, tenant: Tenant, *, reserved: bool = False) -> AsyncGenerator[None, None]:
        """Inside, the run may run. Raises `Refused` after waiting for too long, and at once if it
        was not `reserved` by whoever comes."""
        if not reserved:
            self.reserve(tenant)
        try:
            await self._wait(tenant.name)
            try:
                yield
            finally:
                self._over(tenant.name)
        finally:
            if not reserved:
                self.release(tenant)
            self._next()

    def end_all(self, error: Refused) -> None:
        """Whoever waits for a turn gets that error."""
        for queue in self._queues.values():
            for waiter in queue:
                if not waiter.done():
                    waiter.set_exception(error)

    async def idle(self) -> None:
        """Until nothing runs or waits."""
        await self._idle.wait()

    async def _wait(self, tenant: str) -> None:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._queues.setdefault(tenant, deque()).append(waiter)
        self.waiting += 1
        self._next()
        try:
            async with asyncio.timeout(self._config.wait_s):
                await waiter
        except BaseException as error:
            self._leave(tenant, waiter)
            if isinstance(error, TimeoutError):
                raise Refused(
                    503,
                    f"no turn came in {self._config.wait_s:g} seconds; try again",
                    code="queue_timeout",
                    retry=self._config.wait_s,
                ) from None
            raise

    def _leave(self, tenant: str, waiter: Waiter) -> None:
        queue = self._queues.get(tenant, deque())
        if waiter not in queue:
            self._over(tenant)  # its turn came, and nobody was there to take it
            return
        queue.remove(waiter)
        self.waiting -= 1
        if not queue:
            del self._queues[tenant]

    def _next(self) -> None:
        """Give out the turns that are free: a tenant that got one goes to the end."""
        while self.running < self._config.running:
            most = self._most()
            free = (name for name in self._queues if self._under_way[name] < most)
            tenant = next(free, None)
            if tenant is None:
                return
            queue = self._queues[tenant]
            waiter = queue.popleft()
            self.waiting -= 1
            del self._queues[tenant]
            if queue:
                self._queues[tenant] = queue
            self.running += 1
            self._under_way[tenant] += 1
            if not waiter.done():
                waiter.set_result(None)

    def _most(self) -> int:
        """Turns of one tenant, where there are several: half of all while others wait, and never
        all of them, so that who comes later finds some."""
        running = self._config.running
        if not self._shared:
            return running
        return max(1, running // 2 if len(self._queues) > 1 else running - max(1, running // 8))

    def _over(self, tenant: str) -> None:
        self.running -= 1
        self._under_way[tenant] -= 1
        if not self._under_way[tenant]:
            del self._under_way[tenant]

"""Whose run goes next: so many at once, a bounded queue, tenants one after the other.

Knows no engine: a turn is the right to run one program. The queue is bounded in runs, and in the
tokens of their texts.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused

ONE = (0,)
"""A run of which no text is known."""

CONTEXTS = 4
"""Of tokens that may wait, where the config names no number."""

SURE = 0.5
"""Of the time that a run may wait: who would wait for longer, by turns of late, is refused. Turns
may get twice as long before somebody who was let in has waited for nothing."""

_RECENT = 16
"""Turns that the mean of their lengths looks back on."""


@dataclass(eq=False, slots=True)
class Reservation:
    """Runs that the server has taken."""

    tenant: Tenant
    runs: int
    texts: deque[int]  # tokens of those whose turn has not come; 0 for one that need not wait


@dataclass(frozen=True, eq=False, slots=True)
class _Waiter:
    reservation: Reservation
    come: asyncio.Future[None]  # its turn


class Turns:
    """For one event loop. `context` is the model's, in tokens."""

    def __init__(self, config: ServerConfig, context: int) -> None:
        self._config = config
        self._most_text = config.queue_tokens or CONTEXTS * context
        self._queues: dict[str, deque[_Waiter]] = {}  # by tenant, the next one first
        self._of: Counter[str] = Counter()  # reserved, waiting and running, by tenant
        self._under_way: Counter[str] = Counter()  # by tenant
        self._text: Counter[str] = Counter()  # tokens of what waits, by tenant
        self._shared = config.several_tenants
        self._mean = 0.0  # seconds of recent turns
        self.running = 0
        self.waiting = 0
        self.closed = False  # the server drains
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def text(self) -> int:
        """Tokens of the runs that wait, those too that were taken and do not queue yet."""
        return self._text.total()

    def check(self, tenant: Tenant, texts: Sequence[int] = ONE) -> None:
        """Raise `Refused` if these runs of the tenant's, with so many tokens each, would not be
        taken now."""
        runs, own = len(texts), self._of[tenant.name]
        if self.closed:
            raise Refused(
                503, "the server is shutting down", code="draining", retry=self._config.drain_s
            )
        if own + runs > self._config.tenant:
            raise Refused(
                429,
                f"{own} of your runs are under way or wait, of "
                f"{self._config.tenant} that can; wait for one to end",
                code="too_many_runs",
                retry=self._soon(1, self._under_way[tenant.name]),
            )
        if self._of.total() + runs > self._config.running + self._config.queue:
            raise self._full("the queue is full; try again")
        ahead = self._ahead(tenant.name)
        if ahead and self._expected(ahead + 1, self.running) > SURE * self._config.wait_s:
            raise self._full(f"{self.waiting} wait, and no turn might come in time; try again")
        self._check_text(tenant, sum(texts[self._free(tenant.name) :]))

    def _check_text(self, tenant: Tenant, tokens: int) -> None:
        """A tenant none of whose runs waits may let some wait, however large: nothing that the
        server takes is refused for ever, and nobody by what others have there."""
        own = self._text[tenant.name]
        most = self._most_text
        if not (own and tokens):
            return
        if self.text + tokens > most:
            raise self._full(f"{self.text:,} tokens wait, of {most:,} that can; try again")
        if self._shared and own + tokens > most // 2:
            raise self._full(f"{own:,} of your tokens wait, of {most // 2:,} that can; try again")

    def reserve(self, tenant: Tenant, texts: Sequence[int] = ONE) -> Reservation:
        """Count these runs until they are released; `Refused` as `check`, all or none.

        Args:
            texts: the tokens of each, in the order in which they will come for their turns.
        """
        self.check(tenant, texts)
        free = self._free(tenant.name)
        waiting = deque([*(0 for _ in texts[:free]), *texts[free:]])
        self._of[tenant.name] += len(texts)
        self._text[tenant.name] += sum(waiting)
        self._idle.clear()
        return Reservation(tenant, len(texts), waiting)

    def release(self, reservation: Reservation) -> None:
        """All of its runs are over."""
        name = reservation.tenant.name
        while reservation.texts:
            self._waits_no_more(reservation)
        self._of[name] -= reservation.runs
        if not self._of[name]:
            del self._of[name]
        if not self._of:
            self._idle.set()

    @contextmanager
    def reserved(self, tenant: Tenant) -> Generator[None, None, None]:
        """Inside, one more is reserved; `Refused` as `check`."""
        reservation = self.reserve(tenant)
        try:
            yield
        finally:
            self.release(reservation)

    @asynccontextmanager
    async def turn(
        self, tenant: Tenant, reservation: Reservation | None = None
    ) -> AsyncGenerator[None, None]:
        """Inside, the run may run. Raises `Refused` after waiting for too long, and at once if
        there is no `reservation`, which whoever made it releases, and no room.

        Runs often end together. All that get their turns then begin before any of those that are
        over is answered: the engine would start its next step with a part of them."""
        held = self.reserve(tenant) if reservation is None else reservation
        try:
            await self._wait(held)
            begun = asyncio.get_running_loop().time()
            try:
                yield
            finally:
                seconds = asyncio.get_running_loop().time() - begun
                self._mean += (seconds - self._mean) / _RECENT
                self._over(tenant.name)
        finally:
            if reservation is None:
                self.release(held)
            self._next()
        for _ in range(2):  # whose turn has come wakes, and begins
            await asyncio.sleep(0)

    def end_all(self, error: Refused) -> None:
        """Whoever waits for a turn gets that error."""
        for queue in self._queues.values():
            for waiter in queue:
                if not waiter.come.done():
                    waiter.come.set_exception(error)

    async def idle(self) -> None:
        """Until nothing runs or waits."""
        await self._idle.wait()

    # -- how

    async def _wait(self, reservation: Reservation) -> None:
        tenant = reservation.tenant.name
        waiter = _Waiter(reservation, asyncio.get_running_loop().create_future())
        self._queues.setdefault(tenant, deque()).append(waiter)
        self.waiting += 1
        self._next()
        try:
            async with asyncio.timeout(self._config.wait_s):
                await waiter.come
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

    def _leave(self, tenant: str, waiter: _Waiter) -> None:
        queue = self._queues.get(tenant, deque())
        if waiter not in queue:
            self._over(tenant)  # its turn came, and nobody was there to take it
            return
        queue.remove(waiter)
        self.waiting -= 1
        self._waits_no_more(waiter.reservation)
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
            self._waits_no_more(waiter.reservation)
            del self._queues[tenant]
            if queue:
                self._queues[tenant] = queue
            self.running += 1
            self._under_way[tenant] += 1
            if not waiter.come.done():
                waiter.come.set_result(None)

    def _waits_no_more(self, reservation: Reservation) -> None:
        """One of its runs, the next one."""
        name = reservation.tenant.name
        self._text[name] -= reservation.texts.popleft()
        if not self._text[name]:
            del self._text[name]

    def _most(self) -> int:
        """Turns of one tenant, where there are several: half of all while others wait, and never
        all of them, so that who comes later finds some."""
        running = self._config.running
        if not self._shared:
            return running
        return max(1, running // 2 if len(self._queues) > 1 else running - max(1, running // 8))

    def _free(self, tenant: str) -> int:
        """Turns that runs of the tenant would get at once: nobody has them, or comes for them."""
        most = self._most()
        coming = sum(max(0, min(self._of[name], most) - self._under_way[name]) for name in self._of)
        free = self._config.running - self.running - coming
        return max(0, min(free, most - self._of[tenant]))

    def _over(self, tenant: str) -> None:
        self.running -= 1
        self._under_way[tenant] -= 1
        if not self._under_way[tenant]:
            del self._under_way[tenant]

    def _full(self, message: str) -> Refused:
        retry = self._soon(self.waiting, self.running)
        return Refused(503, message, code="queue_full", retry=retry)

    def _soon(self, runs: int, at_once: int) -> float:
        """Seconds after which it is worth to try again, when so many are to get their turns."""
        return max(1.0, min(self._config.wait_s, self._expected(runs, at_once)))

    def _ahead(self, tenant: str) -> int:
        """Runs that get their turns before one that comes now: they go round the tenants."""
        own = len(self._queues.get(tenant, ()))
        others = len(self._queues) - (own > 0)
        return min(self.waiting, own + others * (own + 1))

    def _expected(self, runs: int, at_once: int) -> float:
        """Seconds in which so many runs get their turns, if turns go on as of late."""
        return self._mean * runs / max(1, at_once)

"""Programs that clients sent: each runs in a task of its own, writes a log, and leaves a result.

A job belongs to the tenant who sent it; to all others it does not exist. When nobody follows it any
more it lingers, for as long as it was asked to, and is cancelled.
"""

import asyncio
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal

from ramet.graph import Graph
from ramet.limits import Limits
from ramet.runtime.engine import AnyProgram, bound_arguments
from ramet.runtime.events import Event
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused, refused
from ramet.runtime.server.event_log import EventLog
from ramet.runtime.server.metrics import Metrics
from ramet.runtime.server.runs import Runs
from ramet.runtime.server.sse import dumps, event
from ramet.runtime.server.telling import Telling
from ramet.runtime.server.turns import Reservation
from ramet.runtime.server.wire import Result
from ramet.runtime.works import Works

Status = Literal["running", "done", "failed", "cancelled"]
Outcome = Result | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run."""

    program: AnyProgram
    items: Sequence[Mapping[str, Any]]  # the arguments of each run
    batch: bool  # whether the result is a list
    seed: int | None
    limits: Limits
    size: int  # bytes of the program and its arguments


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """One order on its way, or what it left."""

    id: str
    tenant: Tenant
    order: Order
    log: EventLog
    reservation: Reservation
    created: int  # seconds since the epoch
    status: Status = "running"
    outcomes: list[Outcome | None] = field(default_factory=list)
    ended: float = 0.0  # by the loop's clock
    task: asyncio.Task[None] | None = None
    followers: int = 0
    linger: float = 0.0  # seconds that it goes on when nobody follows it; inf: to its end
    leaving: asyncio.TimerHandle | None = None  # what cancels it then

    @property
    def error(self) -> Refused | None:
        """What ended it, if it is no batch."""
        outcome = self.outcomes[0]
        return outcome if isinstance(outcome, Refused) and not self.order.batch else None

    @property
    def size(self) -> int:
        """Bytes of its events and results."""
        made = (len(each.text) for each in self.outcomes if isinstance(each, Result))
        return self.log.size + sum(made)

    def view(self) -> str:
        """What a client sees of it, as JSON: the result too, once it is there."""
        head = dumps(
            {
                "id": self.id,
                "object": "program",
                "program": self.order.program.name,
                "status": self.status,
                "created": self.created,
            }
        )
        if self.status == "running":
            return head
        told = [*map(_told, self.outcomes)]
        batch = ",".join(f"{{{each}}}" for each in told)
        rest = f'"results":[{batch}]' if self.order.batch else told[0]
        return f"{head[:-1]},{rest}}}"

    def join(self) -> None:
        """Somebody follows it from now on, until they `leave`."""
        self.followers += 1
        if self.leaving is not None:
            self.leaving.cancel()
            self.leaving = None

    async def leave(self) -> None:
        """The last one to leave cancels it: at once, or later if it lingers."""
        self.followers -= 1
        if self.followers or self.linger == inf:
            return
        if self.linger:
            loop = asyncio.get_running_loop()
            self.leaving = loop.call_later(self.linger, self._left)
        else:
            await self.cancel()

    async def over(self) -> None:
        """Until it has ended; for those who joined."""
        if self.task is not None:
            await asyncio.wait({self.task})

    async def follow(self, after: int = 0) -> AsyncGenerator[bytes, None]:
        """Its events, for those who joined; an error is the last one for whoever is too slow."""
        try:
            async with aclosing(self.log.follow(after)) as events:
                async for each in events:
                    yield each
        except Refused as error:
            yield event({"error": error.body}, name="error")

    async def cancel(self) -> None:
        """End it now; every block is given back before its next step."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.wait({self.task})

    def _left(self) -> None:
        if self.task is not None and self.linger < inf:
            self.task.cancel()


def _told(outcome: Outcome | None) -> str:
    if isinstance(outcome, Result):
        return f'"result":{outcome.text}'
    return f'"error":{dumps((outcome or _CANCELLED).body)}'


_CANCELLED = Refused(409, "it was cancelled", code="cancelled")


class Jobs:
    """The jobs of one server."""

    def __init__(self, runs: Runs, metrics: Metrics, config: ServerConfig) -> None:
        self._runs = runs
        self._metrics = metrics
        self._config = config
        self._jobs: dict[str, Job] = {}
        self._over: dict[str, OrderedDict[str, Job]] = {}  # by tenant, the oldest first
        self._kept: Counter[str] = Counter()  # bytes of those, by tenant

    def start(self, tenant: Tenant, order: Order) -> Job:
        """Raises `Refused` if there is no room for all of its runs."""
        self._forget_old()
        runs = len(order.items)
        tokens = -(-order.size // (runs * self._config.prompt_bytes_per_token))
        reservation = self._runs.turns.reserve(tenant, [tokens] * runs)
        job = Job(
            id=f"prog_{secrets.token_hex(12)}",
            tenant=tenant,
            order=order,
            log=EventLog(self._config.log_bytes),
            reservation=reservation,
            created=int(time.time()),
            outcomes=[None] * runs,
        )
        self._jobs[job.id] = job
        job.log.append("created", job.view())
        job.task = asyncio.create_task(self._work(job))
        job.task.add_done_callback(lambda task: self._close(job))
        return job

    def get(self, tenant: Tenant, id: str) -> Job:
        """The tenant's own; `Refused` otherwise."""
        job = self.find(tenant, id)
        if job is None:
            raise Refused(404, "there is no such program, or no longer", code="not_found")
        return job

    def find(self, tenant: Tenant, id: str) -> Job | None:
        """The tenant's own, if it is still there."""
        self._forget_old()
        job = self._jobs.get(id)
        return None if job is None or job.tenant != tenant else job

    def forget(self, job: Job) -> None:
        """It cannot be asked for any more."""
        self._jobs.pop(job.id, None)
        tenant = job.tenant.name
        over = self._over.get(tenant, OrderedDict())
        if over.pop(job.id, None) is not None:
            self._kept[tenant] -= job.size  # as when it ended
        if not over:
            self._over.pop(tenant, None)
            self._kept.pop(tenant, None)

    async def close(self) -> None:
        """Cancel all of them."""
        await asyncio.gather(*(job.cancel() for job in [*self._jobs.values()]))

    # -- how one runs

    async def _work(self, job: Job) -> None:
        works = Works()
        async with asyncio.TaskGroup() as group:
            for at, arguments in enumerate(job.order.items):
                group.create_task(self._item(job, at, arguments, works))
        job.status = "failed" if job.error is not None else "done"

    def _close(self, job: Job) -> None:
        """Its task is over, even one that was cancelled before it began."""
        self._runs.turns.release(job.reservation)
        if job.status == "running":
            job.status = "cancelled"
        for at, outcome in enumerate(job.outcomes):
            if outcome is None:
                self._end(job, at, _CANCELLED)
        job.log.append("done", {"id": job.id, "status": job.status}, ending=True)
        job.log.close()
        self._keep(job)

    async def _item(self, job: Job, at: int, arguments: Mapping[str, Any], works: Works) -> None:
        """One run; its outcome is written down, whatever it is."""
        order, item = job.order, {"item": at} if job.order.batch else {}
        try:
            given = bound_arguments(order.program, (), arguments)
            async with Telling(job.log, item) as telling:
                with self._metrics.watched_run() as watched:

                    def on_event(event: Event) -> None:
                        watched.see(event)
                        telling.tell(event)

                    watched.finished = finished = await self._runs.run(
                        job.tenant,
                        order.program,
                        given,
                        on_event,
                        item=at,
                        seed=order.seed,
                        limits=order.limits,
                        works=works,
                        reservation=job.reservation,
                    )
            self._end(job, at, await asyncio.to_thread(Result.of, finished, order.limits.made))
        except Exception as error:
            self._end(job, at, refused(error))

    def _end(self, job: Job, at: int, outcome: Outcome) -> None:
        item = f'"item":{at},' if job.order.batch else ""
        job.outcomes[at] = outcome
        ending = None not in job.outcomes
        if isinstance(outcome, Result):
            job.log.append("usage", f'{{{item}"usage":{outcome.usage}}}', ending=ending)
        name = "result" if isinstance(outcome, Result) else "error"
        job.log.append(name, f"{{{item}{_told(outcome)}}}", ending=ending)

    # -- what is kept

    def _keep(self, job: Job) -> None:
        """For a while, so that its client can ask; a tenant's newest, within bounds."""
        job.ended = asyncio.get_running_loop().time()
        job.task = None
        name = Graph(job.order.program.name, ())  # nobody asks for more of it any more
        job.order = replace(job.order, program=name, items=())
        if job.id not in self._jobs:
            return
        tenant = job.tenant.name
        over = self._over.setdefault(tenant, OrderedDict())
        over[job.id] = job
        self._kept[tenant] += job.size
        while over and (
            len(over) > self._config.kept or self._kept[tenant] > self._config.kept_bytes
        ):
            self.forget(next(iter(over.values())))

    def _forget_old(self) -> None:
        since = asyncio.get_running_loop().time() - self._config.kept_s
        for over in [*self._over.values()]:
            for job in [*over.values()]:
                if job.ended > since:
                    break
                self.forget(job)

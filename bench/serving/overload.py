"""Four times the load that the server can take: how fast it refuses, and what it still gets done.

Programs of 8 to 24 tokens after a prompt that nobody sent before, from eight tenants, so that both
the limit of a tenant and the queue are met; all settings but the keys are the server's own. The
peak is what 128 clients get done that ask again as soon as they are answered: half of them run,
half wait, so that no turn stays free. The overload is open: requests come four times as often as
that, at random moments, whether those before are answered or not; connections are kept, as HTTP
clients do, and one is opened when all are busy. Both are measured in turns; what ends in the first
seconds does not count.

The lengths differ, as they do in life: equal programs that begin together end together, in waves of
64 some seconds apart, and a minute has one wave more or less than the next.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from time import perf_counter
from typing import Any

from serving.connection import Connection, post
from serving.figures import quantile
from serving.hosting import Hosted, hosted
from serving.texts import words

TENANTS, CLIENTS, TIMES = 8, 128, 4.0
TOKENS, PROMPT = (8, 24), 40
MOST = 1000  # programs a second, more than any server here gets done
TARGETS = {"refused_p99_ms": 50.0, "goodput": 0.95}
KEYS = {f"key-{at}": f"tenant-{at}" for at in range(TENANTS)}

SOURCE = """
program short(prompt: str, tokens: int):
    "{prompt}"
    gen text(max_tokens=tokens, ignore_eos=true)
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and what became of it; moments in seconds since the phase began."""

    due: float
    sent: float
    ended: float
    status: int  # 0: the connection failed

    @property
    def ms(self) -> float:
        return 1e3 * (self.ended - self.sent)


class Phase:
    """Requests of one kind of load."""

    def __init__(self, host: Hosted, draw: random.Random, most: int) -> None:
        """`most`: requests that are made ahead, so that they take no time of the server's."""
        self.sent: list[Sent] = []
        self._host = host
        self._draw = draw
        self._requests = deque(requests(draw, most))
        self._idle: list[Connection] = []
        self._began = perf_counter()

    @property
    def now(self) -> float:
        return perf_counter() - self._began

    async def send(self, due: float) -> None:
        request = self._requests.popleft()
        sent = self.now
        try:
            connection = await self._connection()
            status = (await connection.ask(request)).status
        except OSError:
            status = 0
        else:
            self._idle.append(connection)
        self.sent.append(Sent(due, sent, self.now, status))

    async def _connection(self) -> Connection:
        """The one that was used last, of those that the server has not ended."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.abort()
        return await Connection.open(self._host.port)

    async def closed(self, clients: int, seconds: float) -> None:
        """Each client asks again as soon as it is answered."""

        async def client() -> None:
            while self.now < seconds:
                await self.send(self.now)

        await asyncio.gather(*(client() for _ in range(clients)))

    async def open(self, rate: float, seconds: float) -> None:
        """So many requests a second, whatever becomes of them; all are answered at the end."""
        due = 0.0
        async with asyncio.TaskGroup() as group:
            while (due := due + self._draw.expovariate(rate)) < seconds:
                await asyncio.sleep(due - self.now)
                group.create_task(self.send(due))

    def end(self) -> None:
        """Its connections are cut."""
        for connection in self._idle:
            connection.abort()

    def goodput(self, since: float, until: float) -> float:
        """Programs that were run to their end a second."""
        done = sum(each.status == 200 and since <= each.ended < until for each in self.sent)
        return done / (until - since)


def requests(draw: random.Random, count: int) -> Iterator[bytes]:
    """Programs of one tenant after the other, in bytes."""
    for key in islice(cycle(KEYS), count):
        arguments = {"prompt": words(draw, PROMPT), "tokens": draw.randint(*TOKENS)}
        yield post("/v1/programs", {"source": SOURCE, "arguments": arguments}, key)


async def measure(
    host: Hosted, *, clients: int, seconds: float, ramp: float, turns: int
) -> dict[str, Any]:
    draw = random.Random(0)
    peaks: list[float] = []
    overs: list[float] = []
    sent: list[Sent] = []
    rates: list[float] = []
    for turn in range(-1, turns):  # the first one warms up
        peak = Phase(host, draw, int(clients + MOST * seconds))
        await peak.closed(clients, seconds if turn >= 0 else ramp)
        peak.end()
        if turn < 0:
            continue
        peaks.append(peak.goodput(ramp, seconds))
        over = Phase(host, draw, int(2 * TIMES * peaks[-1] * seconds) + clients)
        await over.open(TIMES * peaks[-1], seconds)
        over.end()
        overs.append(over.goodput(ramp, seconds))
        rates.append(sum(each.due >= ramp for each in over.sent) / (seconds - ramp))
        sent += (each for each in over.sent if each.due >= ramp)
    refused = [each.ms for each in sent if each.status in (429, 503)]
    ratios = [over / peak for over, peak in zip(overs, peaks, strict=True)]
    return {
        "workload": f"{PROMPT} words, {TOKENS[0]} to {TOKENS[1]} tokens",
        "model": host.model,
        "peak_per_s": round(median(peaks), 2),
        "sent_per_s": round(median(rates), 1),
        "goodput_per_s": round(median(overs), 2),
        "goodput": round(median(ratios), 3),
        "goodputs": [round(each, 3) for each in ratios],
        "refused": len(refused),
        **of("refused", refused),
        **of("done", [each.ms for each in sent if each.status == 200]),
        **of("late", [1e3 * (each.sent - each.due) for each in sent]),
        "statuses": dict(sorted(Counter(str(each.status) for each in sent).items())),
        "targets": TARGETS,
    }


def of(name: str, ms: Sequence[float]) -> dict[str, float | None]:
    return {f"{name}_{label}_ms": rounded(quantile(ms, share)) for label, share in SHARES.items()}


SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


async def overload(quick: bool) -> Iterable[dict[str, object]]:
    async with hosted("tiny" if quick else "smollm2-135m", keys=KEYS) as host:
        if quick:
            return [await measure(host, clients=80, seconds=2.0, ramp=0.5, turns=1)]
        return [await measure(host, clients=CLIENTS, seconds=60.0, ramp=12.0, turns=4)]

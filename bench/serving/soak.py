"""256 clients for minutes, some of whom leave or make mistakes: does the server stay as it was?

A tiny random model, so that there are many requests. Eight tenants; all settings but the keys are
the server's own. Each client asks again as soon as it is answered, or within a second if it was
refused, half of the time on the connection that it has. One in twenty leaves at a moment drawn by
chance, before or while it is answered; one in a hundred makes a mistake. The memory of the server's
process is read every few seconds, and its growth is the line with the least squares through what
was read in the second half, when as many results are kept as the server keeps. At the end nothing
may be held, and the books are audited.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

from serving.connection import Connection, ask, request
from serving.figures import quantile, slope
from serving.hosting import Hosted, hosted
from serving.mixture import FORK, STORED, Ask, ask_of
from serving.overload import KEYS, rounded

CLIENTS, LEAVING, MISTAKEN = 256, 0.05, 0.01
REFUSED = (429, 503)
WARM, EVERY = 1 / 2, 5.0  # share of the time that is not regarded; seconds between two readings
TARGETS = {"other_5xx": 0, "mib_per_10000": 1.0}

Tell = Callable[[str], None]


class Soak:
    """All clients together, and what they met."""

    def __init__(self, host: Hosted, seconds: float) -> None:
        self.statuses: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()  # answers that may not be, and cut connections
        self.left = 0
        self.ms: list[float] = []
        self.memory: list[tuple[float, float]] = []  # requests so far, and bytes
        self.over = asyncio.Event()
        self._host = host
        self._ends = perf_counter() + seconds

    @property
    def requests(self) -> int:
        return self.kinds.total()

    async def client(self, number: int) -> None:
        draw = random.Random(number)
        key = [*KEYS][number % len(KEYS)]
        connection: Connection | None = None
        while perf_counter() < self._ends:
            each = ask_of(draw, key, MISTAKEN)
            leaves = draw.random() if draw.random() < LEAVING else None
            self.kinds[each.kind] += 1
            try:
                connection = connection or await Connection.open(self._host.port)
                keep = await self._ask(connection, each, key, leaves)
            except OSError as error:
                if each.cut:
                    self.statuses["cut"] += 1
                else:
                    self.wrong[f"{each.kind}: {type(error).__name__}"] += 1
                keep = False
            if connection is not None and not (keep and draw.random() < 0.5):
                connection.abort()
                connection = None
        if connection is not None:
            connection.abort()

    async def _ask(self, connection: Connection, each: Ask, key: str, leaves: float | None) -> bool:
        """Whether the connection can be used again."""
        started = perf_counter()
        try:
            async with asyncio.timeout(leaves):
                answer = await connection.ask(each.data)
        except TimeoutError:
            self.left += 1
            return False
        self.ms.append(1e3 * (perf_counter() - started))
        self.statuses[str(answer.status)] += 1
        if not each.allowed(answer.status):
            self.wrong[f"{each.kind}: {answer.status} {answer.body[:200]!r}"] += 1
        elif each.stream and answer.status == 200 and not ended_well(answer.body):
            self.wrong[f"{each.kind}: the stream ended with {answer.body[-300:]!r}"] += 1
        if answer.status in REFUSED:
            await asyncio.sleep(random.random())
            return False
        if answer.status == 202:
            await self._follow(connection, answer.json()["id"], key)
        return answer.headers.get("connection", "").lower() != "close"

    async def _follow(self, connection: Connection, id: str, key: str) -> None:
        """Ask how a program in the background stands until it is over."""
        while True:
            await asyncio.sleep(0.5)
            answer = await connection.ask(request("GET", f"/v1/programs/{id}", key=key))
            self.statuses[str(answer.status)] += 1
            self.kinds["background, asked for"] += 1
            status = answer.json()["status"] if answer.status == 200 else None
            if status == "done":
                return
            if status != "running":
                self.wrong[f"background: {answer.status} {answer.body[:200]!r}"] += 1
                return

    async def watch(self, tell: Tell) -> None:
        """Read the memory of the server, until all is `over`."""
        while not self.over.is_set():
            rss = (await self._host.look("usage"))["rss"]
            self.memory.append((self.requests, rss))
            tell(
                f"{self._ends - perf_counter():.0f} s left: {self.requests} requests, "
                f"{rss / 2**20:.1f} MiB, {dict(self.statuses)}, wrong {dict(self.wrong)}"
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self.over.wait()


def ended_well(body: bytes) -> bool:
    """Whether a stream of programs, or one of another dialect, came to its end without an error."""
    if body.endswith(b"data: [DONE]\n\n"):
        return b'data: {"error"' not in body
    return body.endswith(b'"status":"done"}\n\n') and b"event: error" not in body


async def settled(host: Hosted, baseline: dict[str, Any]) -> dict[str, Any]:
    """How it stands, once nothing is held, or after ten seconds."""
    for _ in range(40):
        if not over(await host.look("state"), baseline):
            break
        await asyncio.sleep(0.25)
    return await host.look("state")


def over(state: dict[str, Any], baseline: dict[str, Any]) -> dict[str, int]:
    """What is held beyond what was held at the start."""
    return {
        name: each - baseline["held"][name]
        for name, each in state["held"].items()
        if each > baseline["held"][name]
    }


async def prepare(host: Hosted) -> None:
    """Each tenant stores a program, and runs some, so that what is made once is there."""

    async def one(number: int, key: str) -> None:
        stored = request("PUT", f"/v1/library/{STORED}", {"source": FORK}, key)
        assert (await ask(host.port, stored)).status in (200, 201)
        draw = random.Random(-number - 1)
        for _ in range(20):
            each = ask_of(draw, key, 0.0)
            answer = await ask(host.port, each.data)
            assert each.allowed(answer.status), (each, answer)

    await asyncio.gather(*(one(number, key) for number, key in enumerate(KEYS)))


async def soak(minutes: float, clients: int, tell: Tell) -> dict[str, object]:
    async with hosted("tiny", keys=KEYS) as host:
        await prepare(host)
        await asyncio.sleep(1)
        baseline = await host.look("state")
        run = Soak(host, 60 * minutes)
        started = perf_counter()
        watching = asyncio.create_task(run.watch(tell))
        await asyncio.gather(*map(run.client, range(clients)))
        spent = perf_counter() - started
        run.over.set()
        await watching
        state = await settled(host, baseline)
        health = await ask(host.port, request("GET", "/health"))
    return {**record(run, clients, spent), **ending(state, baseline, health.status)}


def record(run: Soak, clients: int, spent: float) -> dict[str, object]:
    regarded = run.memory[int(WARM * len(run.memory)) :]
    growth, error = slope(regarded) if len(regarded) > 2 else (0.0, 0.0)
    mib = 2**20
    return {
        "minutes": round(spent / 60, 2),
        "clients": clients,
        "requests": run.requests,
        "requests_per_s": round(run.requests / spent, 1),
        "left": run.left,
        "mistakes": sum(n for kind, n in run.kinds.items() if kind.startswith("bad")),
        "statuses": dict(sorted(run.statuses.items())),
        "other_5xx": sum(
            n for status, n in run.statuses.items() if status[0] == "5" and status != "503"
        ),
        "wrong": dict(run.wrong),
        "p50_ms": rounded(quantile(run.ms, 0.5)),
        "p99_ms": rounded(quantile(run.ms, 0.99)),
        "mib_per_10000": round(1e4 * growth / mib, 3),
        "mib_per_10000_error": round(1e4 * error / mib, 3),
        "mib_first": round(run.memory[0][1] / mib, 1),
        "mib_warm": round(regarded[0][1] / mib, 1) if regarded else None,
        "mib_last": round(run.memory[-1][1] / mib, 1),
        "memory": [[int(requests), round(rss / mib, 2)] for requests, rss in run.memory],
        "kinds": dict(sorted(run.kinds.items())),
        "targets": TARGETS,
    }


def ending(state: dict[str, Any], baseline: dict[str, Any], health: int) -> dict[str, object]:
    return {
        "audit": state["audit"],
        "held": state["held"],
        "over_baseline": over(state, baseline),
        "engine": state["engine"],
        "threads": state["threads"],
        "health": health,
    }

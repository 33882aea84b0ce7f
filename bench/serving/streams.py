"""Tokens a second of 64 programs that stream through server-sent events, beside the engine alone.

The same programs, all at once, in three ways and in turns, in the one process that has the engine:
through HTTP by clients of another process, each over a connection of its own; through
`AsyncEngine.stream`, which is the engine with its events; and through `AsyncEngine.run`, the engine
by itself. Nothing is cached at the start of a run. The clients only store what comes, and read it
when the time is taken. Where the CPU time went is told by thread.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from statistics import median
from time import perf_counter, process_time
from typing import Any

from serving.connection import post
from serving.hosting import Hosted, hosted
from serving.texts import words

STREAMS, TOKENS, PROMPT = 64, 64, 24
TARGET = 0.90

SOURCE = """
program go_on(prompt: str, most: int):
    "{prompt}"
    gen text(max_tokens=most, ignore_eos=true)
"""

Arguments = Sequence[dict[str, Any]]


def arguments(streams: int, tokens: int) -> Arguments:
    draw = random.Random(0)
    return [{"prompt": words(draw, PROMPT), "most": tokens} for _ in range(streams)]


async def through_http(host: Hosted, given: Arguments) -> dict[str, float]:
    """Seconds until all streams have ended, tokens that came, and CPU seconds by who spent them."""
    asks = [
        post("/v1/programs", {"source": SOURCE, "arguments": each, "stream": True})
        for each in given
    ]

    loop = asyncio.get_running_loop()

    async def one(ask: bytes) -> bytes:
        _, stored = await loop.create_connection(lambda: Stored(ask), "127.0.0.1", host.port)
        return await stored.whole

    before, mine = await host.look("usage"), process_time()
    started = perf_counter()
    answers = await asyncio.gather(*map(one, asks))
    seconds = perf_counter() - started
    client = process_time() - mine
    spent = {name: each - before[name] for name, each in (await host.look("usage")).items()}
    sends = [*map(chunks, answers)]
    return {
        "seconds": seconds,
        "tokens": sum(tokens_of(b"".join(each)) for each in sends),
        "sends": sum(map(len, sends)),
        "bytes": sum(len(part) for each in sends for part in each),
        "client": client,
        **{name: spent[name] for name in ("loop", "engine", "others")},
    }


class Stored(asyncio.Protocol):
    """One request, and the bytes of its answer, which comes in chunks."""

    def __init__(self, ask: bytes) -> None:
        self.whole: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._ask = ask
        self._found: list[bytes] = []
        self._end = b""  # the last bytes that came

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._ask)

    def data_received(self, data: bytes) -> None:
        self._found.append(data)
        self._end = (self._end + data)[-len(END) :]
        if self._end == END:
            self.whole.set_result(b"".join(self._found))
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.whole.done():
            self.whole.set_exception(ConnectionResetError("the answer ended early"))


END = b"\r\n0\r\n\r\n"
"""Of an answer in chunks; an event ends otherwise."""


def chunks(answer: bytes) -> list[bytes]:
    """The body of an answer, as it was sent."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), answer
    found: list[bytes] = []
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            return found
        found.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]


def tokens_of(body: bytes) -> int:
    """Those that came in `text` events of a stream that ended well."""
    found, name, ended = 0, "", False
    for line in body.decode().splitlines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: ") and name == "text":
            found += len(json.loads(line.removeprefix("data: ")).get("tokens", ()))
        elif line.startswith("data: ") and name == "done":
            ended = json.loads(line.removeprefix("data: "))["status"] == "done"
    assert ended, "a stream was cut, or failed"
    return found


async def alone(host: Hosted, given: Arguments, *, events: bool) -> dict[str, float]:
    """The same on the engine, without HTTP."""
    before = await host.look("usage")
    found = await host.look("engine", source=SOURCE, arguments=given, events=events)
    spent = {name: each - before[name] for name, each in (await host.look("usage")).items()}
    return {**found, **{name: spent[name] for name in ("loop", "engine", "others")}}


async def measure(
    host: Hosted, dtype: str, streams: int, tokens: int, turns: int
) -> dict[str, object]:
    given = arguments(streams, tokens)
    runs: dict[str, list[dict[str, float]]] = {"http": [], "stream": [], "run": []}
    for turn in range(-1, turns):  # the first one warms up
        for name, found in runs.items():
            await host.forget()
            if name == "http":
                each = await through_http(host, given)
            else:
                each = await alone(host, given, events=name == "stream")
            # A last token that lets no text go is in the value, and in no event of a text.
            assert streams * (tokens - 1) <= each["tokens"] <= streams * tokens, each
            if turn >= 0:
                found.append(each)
    speeds = {name: median(r["tokens"] / r["seconds"] for r in runs[name]) for name in runs}
    return {
        "dtype": dtype,
        "streams": streams,
        "tokens": tokens,
        "tokens_per_s": {name: round(each, 1) for name, each in speeds.items()},
        "ratio": round(speeds["http"] / speeds["run"], 3),
        "ratio_to_stream": round(speeds["http"] / speeds["stream"], 3),
        "target": TARGET,
        "cpu": {name: shares(found) for name, found in runs.items()},
        "us_of_loop_per_token": round(
            1e6 * median(r["loop"] / r["tokens"] for r in runs["http"]), 1
        ),
        "bytes_per_token": round(median(r["bytes"] / r["tokens"] for r in runs["http"])),
        "tokens_per_send": round(median(r["tokens"] / r["sends"] for r in runs["http"]), 2),
        "all": {n: [round(r["tokens"] / r["seconds"], 1) for r in runs[n]] for n in runs},
    }


def shares(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Cores that each was busy with, on average."""
    names = ("engine", "others", "loop", "client")
    return {
        name: round(median(run[name] / run["seconds"] for run in runs), 3)
        for name in names
        if name in runs[0]
    }


async def streams(quick: bool) -> list[dict[str, object]]:
    if quick:
        async with hosted("tiny") as host:
            return [await measure(host, "float32", 8, 8, 1)]
    rows: list[dict[str, object]] = []
    for dtype in ("float32", "int8"):
        async with hosted("smollm2-135m", dtype=dtype) as host:
            rows.append(await measure(host, dtype, STREAMS, TOKENS, 5))
    return rows

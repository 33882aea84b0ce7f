"""What bench/server.py computes, how its clients and its proxy work, and that it runs."""

import asyncio
import json
import random
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

import ramet

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))
pytest.importorskip("openai")
calls, connection, figures, mixture, proxy, soak, streams = (
    import_module(f"serving.{name}")
    for name in ("calls", "connection", "figures", "mixture", "proxy", "soak", "streams")
)

# -- figures


def test_an_area_is_the_share_of_pairs_in_their_order() -> None:
    assert figures.area([1.0, 2.0], [3.0, 4.0]) == (1.0, 1.0, 1.0)
    assert figures.area([3.0, 4.0], [1.0, 2.0]).value == 0.0
    assert figures.area([1.0, 4.0], [2.0, 3.0]).value == 0.5
    assert figures.area([1.0, 1.0], [1.0, 2.0]).value == 0.75


def test_an_interval_holds_what_is_true_about_as_often_as_it_says() -> None:
    draw = random.Random(0)

    def holds() -> bool:
        one, other = ([draw.gauss(0, 1) for _ in range(40)] for _ in range(2))
        found = figures.area(one, other)
        return found.low <= 0.5 <= found.high

    assert 0.9 <= sum(holds() for _ in range(200)) / 200 <= 0.99


def test_a_slope_and_its_error() -> None:
    assert figures.slope([(0, 1), (1, 3), (2, 5)]) == (2.0, 0.0)
    found, error = figures.slope([(x, x % 2) for x in range(100)])
    assert abs(found) < 2 * error + 1e-3


def test_quantiles() -> None:
    values = list(range(100, 0, -1))
    assert [figures.quantile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert figures.quantile([], 0.5) is None


# -- the network


async def others() -> None:
    """Until nobody else is at work."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait({task}, timeout=5)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_a_proxy_delays_each_way_and_the_connecting(delay: float) -> None:
    async def main() -> None:
        async with (
            await asyncio.start_server(echo, "127.0.0.1", 0) as far,
            await proxy.proxy(proxy.port_of(far), delay) as near,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port_of(near))
            for trips in (2, 1):  # the first one begins when the client knows it is connected
                started = perf_counter()
                writer.write(b"there" * 10_000 + b"back")
                assert (await reader.readuntil(b"back"))[:5] == b"there"
                spent = perf_counter() - started
                assert 2 * trips * delay <= spent < 2 * trips * delay + 1
            writer.close()
            await writer.wait_closed()
            await others()

    asyncio.run(main())


def answering(*answers: bytes) -> Callable[..., Awaitable[None]]:
    """A server of one connection, which sends these, one for each request."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in answers:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"Content-Length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            writer.write(each)
        writer.close()
        await writer.wait_closed()

    return meet


def test_a_connection_reads_answers_whole_in_parts_and_cut() -> None:
    whole = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nX-A: b\r\n\r\n{}"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = head + b"3\r\nabc\r\nA;x\r\n0123456789\r\n"

    async def main() -> None:
        meet = answering(whole, parts + b"0\r\n\r\n", parts)
        async with (
            await asyncio.start_server(meet, "127.0.0.1", 0) as server,
            await connection.Connection.open(proxy.port_of(server)) as found,
        ):
            answer = await found.ask(connection.post("/", {"a": 1}, "key"))
            assert (answer.status, answer.headers["x-a"], answer.json()) == (404, "b", {})
            read = [part async for part in found.parts(connection.post("/", b""))]
            assert (found.status, read) == (200, [b"abc", b"0123456789"])
            with pytest.raises(ConnectionResetError):
                await found.ask(connection.post("/", b""))
            await others()

    asyncio.run(main())


# -- what is asked


def test_programs_of_the_benchmarks_are_programs() -> None:
    for source in (*mixture.PROGRAMS.values(), calls.SOURCE, streams.SOURCE):
        ramet.loads(source)
    assert calls.SOURCE.count("gen ") == calls.CALLS - 2 * (calls.BRANCHES - 1)


def test_requests_of_the_soak_are_of_all_kinds_and_as_many_are_mistakes_as_it_says() -> None:
    draw = random.Random(0)
    asks = [mixture.ask_of(draw, "key", 0.1) for _ in range(4000)]
    assert {ask.kind for ask in asks if ask.good} == mixture.KINDS.keys()
    assert {ask.kind for ask in asks if not ask.good} == {f"bad: {k}" for k in mixture.MISTAKES}
    assert 0.08 < sum(not ask.good for ask in asks) / len(asks) < 0.12
    good, bad = (next(ask for ask in asks if ask.good is kind) for kind in (True, False))
    assert [good.allowed(status) for status in (200, 400, 429, 500, 503)] == [1, 0, 1, 0, 1]
    assert [bad.allowed(status) for status in (200, 400, 500)] == [False, True, False]


@pytest.mark.parametrize(
    ("body", "well"),
    [
        (b'data: {"a":1}\n\ndata: [DONE]\n\n', True),
        (b'data: {"error":{}}\n\ndata: [DONE]\n\n', False),
        (b'data: {"a":1}\n\n', False),
        (b'event: done\ndata: {"id":"p","status":"done"}\n\n', True),
        (b'event: done\ndata: {"id":"p","status":"failed"}\n\n', False),
    ],
)
def test_how_a_stream_ended(body: bytes, well: bool) -> None:
    assert soak.ended_well(body) is well


def test_tokens_of_a_stream_are_those_of_its_text_events() -> None:
    def event(name: str, data: Any) -> bytes:
        return f"id: 1\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()

    body = event("text", {"text": "a", "tokens": [1, 2]}) + event("value", {"tokens": [1, 2]})
    done = event("done", {"status": "done"})
    assert streams.tokens_of(body + event("text", {"text": "b"}) + done) == 2
    with pytest.raises(AssertionError):
        streams.tokens_of(body)


def test_it_runs() -> None:
    """On a tiny model, whose texts are no UTF-8 and so may differ as they come back in a prompt."""
    done = subprocess.run(
        [sys.executable, "bench/server.py", "--quick", "--only", "calls"],
        cwd=BENCH.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'ratio_in_turn': ") == len(calls.DELAYS)
    assert done.stderr == ""

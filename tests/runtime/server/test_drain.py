"""A server that ends: who reads what they were sent gets all of it, who does not is cut."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ramet.runtime.server import serve as serve_module
from ramet.runtime.server.jobs import Job
from ramet.runtime.server.serve import Listener
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, listening

SIZE = 400_000
LARGE = 'program large(big: str):\n    "x"\n    gen a(max_tokens=2)\n    return big\n'
LONG = 'program long():\n    "x"\n    gen a(max_tokens=4000, ignore_eos=true)\n'


def narrow(listener: Listener) -> None:
    """Little of an answer fits into the sockets: the rest waits for its reader."""
    for server in listener.servers:
        for each in server.sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)


async def ask(served: Served, source: str, **arguments: str) -> socket.socket:
    """A connection on which that was sent, and nothing is read."""
    body = json.dumps({"source": source, "arguments": arguments, "stream": True}).encode()
    port = served.client.base_url.port
    assert port is not None
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    head = (
        f"POST /v1/programs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    await loop.sock_sendall(sock, head.encode() + body)
    return sock


async def job_of(served: Served) -> Job:
    """What was asked for, as soon as it is there."""
    for _ in range(1_000):
        for job in served.app.state.server.jobs._jobs.values():
            return job
        await asyncio.sleep(0.01)
    raise AssertionError("no run began")


async def read(sock: socket.socket, every: float = 0.0) -> bytes:
    """All that comes, a few KiB at a time."""
    loop = asyncio.get_running_loop()
    found = b""
    while data := await loop.sock_recv(sock, 8_192):
        found += data
        await asyncio.sleep(every)
    return found


Body = Callable[[Served, Listener], Awaitable[None]]


def drained(tokenizer: Tokenizer, body: Body, **config: Any) -> None:
    async def main() -> None:
        async with listening(tokenizer, **config) as (served, listener):
            await served.client.get("/health")  # it listens
            narrow(listener)
            await body(served, listener)

    asyncio.run(main())


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_module, "CLOSE_S", 0.5)


def test_a_slow_reader_gets_its_last_event(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, listener: Listener) -> None:
        sock = await ask(served, LARGE, big="b" * SIZE)
        await (await job_of(served)).over()
        listener.stop()
        began = time.monotonic()
        found = await read(sock, 0.04)
        sock.close()
        assert time.monotonic() - began > 0.8  # longer than one may take nothing
        assert b'"status":"done"' in found
        assert found.endswith(b"0\r\n\r\n")
        assert found.count(b"b" * 1_000) >= SIZE // 1_000 - 20

    drained(byte_tokenizer, body)


def test_at_the_deadline_a_slow_reader_gets_the_error(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, listener: Listener) -> None:
        sock = await ask(served, LONG)
        assert (await job_of(served)).status == "running"
        await asyncio.sleep(0.2)
        listener.stop()
        found = await read(sock, 0.01)
        sock.close()
        assert b"event: error" in found
        assert b'"code":"draining"' in found
        assert b"event: done" in found[-200:]

    drained(byte_tokenizer, body, drain_s=0.1)


def test_who_does_not_read_is_cut(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, listener: Listener) -> None:
        sock = await ask(served, LARGE, big="b" * SIZE)
        await (await job_of(served)).over()
        began = time.monotonic()
        listener.stop()
        while listener.server_state.connections:
            assert time.monotonic() - began < 5
            await asyncio.sleep(0.05)
        assert b"event: done" not in await read(sock)
        sock.close()

    drained(byte_tokenizer, body)


def test_who_reads_for_ever_is_cut_in_the_end(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, listener: Listener) -> None:
        sock = await ask(served, LARGE, big="b" * SIZE)
        await (await job_of(served)).over()
        began = time.monotonic()
        listener.stop()
        reading = asyncio.create_task(read(sock, 0.3))
        while listener.server_state.connections:
            assert time.monotonic() - began < 6
            await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        sock.close()

    drained(byte_tokenizer, body, stall_s=1.0)

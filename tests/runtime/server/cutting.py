"""A proxy on loopback that cuts its connections after so many bytes."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a connection ends: after so many bytes of what is asked, or answered, and how."""

    side: Literal["ask", "answer"]
    after: int
    reset: bool = False  # at once, with what is under way; else what was passed on arrives


class Proxy:
    """Passes on what it gets; each connection has the next one of the cuts, as long as there are
    some."""

    def __init__(self, port: int, cuts: Iterator[Cut]) -> None:
        self._port = port
        self._cuts = cuts
        self.done = 0  # connections that were cut
        self.url = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut = next(self._cuts, None)
        back, there = await asyncio.open_connection("127.0.0.1", self._port)
        ways = {
            "ask": asyncio.create_task(self._pass(reader, there, cut, "ask")),
            "answer": asyncio.create_task(self._pass(back, writer, cut, "answer")),
        }
        try:
            await asyncio.wait(ways.values(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways.values():
                way.cancel()
            await asyncio.gather(*ways.values(), return_exceptions=True)
            for each in (there, writer):
                each.transport.abort() if cut is not None and cut.reset else each.close()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, cut: Cut | None, side: str
    ) -> None:
        left = cut.after if cut is not None and cut.side == side else None
        with suppress(OSError):
            while data := await source.read(1 << 16):
                if left is not None and len(data) >= left:
                    sink.write(data[:left])
                    await sink.drain()
                    self.done += 1
                    return
                left = None if left is None else left - len(data)
                sink.write(data)
                await sink.drain()


@asynccontextmanager
async def cutting(url: str, cuts: Iterator[Cut]) -> AsyncGenerator[Proxy, None]:
    """A proxy before the server at that address."""
    proxy = Proxy(int(url.rstrip("/").rpartition(":")[2]), cuts)
    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()

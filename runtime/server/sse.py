"""Server-sent events: one event as bytes, and an answer that sends them until somebody leaves."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from math import inf
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ramet.runtime.server.errors import Refused

T = TypeVar("T")

BEAT_S = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection."""

BEAT = b": waiting\n\n"

HEAD_S = 10.0
"""Seconds after which a stream begins that has nothing to say yet."""

SLICE = 1 << 16
"""Bytes of an answer that a client may take its time for: one that is slow, but reads, gets all."""

DONE = b"data: [DONE]\n\n"
"""The last event of an OpenAI stream."""


def event(
    data: Mapping[str, Any] | str, *, name: str | None = None, id: str | int | None = None
) -> bytes:
    """One event; a mapping is sent as JSON, which has no line break."""
    text = data if isinstance(data, str) else dumps(data)
    lines = "" if id is None else f"id: {id}\n"
    lines += "" if name is None else f"event: {name}\n"
    return f"{lines}data: {text}\n\n".encode()


def dumps(data: Any) -> str:
    """JSON in ASCII on one line: some readers break lines at letters that JSON lets be."""
    return _ENCODER.encode(data)


def dumps_beside(data: Any) -> str:
    """As `dumps`, for a thread: others get to run meanwhile, and it takes some times as long."""
    return "".join(_ENCODER.iterencode(data))


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class EventStream(Response):
    """Sends what a generator yields; closes it as soon as the client is gone, or stalls.

    Both the generator's cleanup, and `on_close`, which is called even if nothing was ever sent, are
    awaited before the answer is over: they cancel runs.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        stall_s: float,
        headers: Mapping[str, str] | None = None,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}
        )
        del self.headers["content-length"]
        self._events = events
        self._stall_s = stall_s
        self._on_close = on_close
        self._sent = inf  # when, by the loop's clock; before the first, while one is sent, and
        # after the last: never
        self._sending = inf  # since when one is

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [
            asyncio.create_task(each)
            for each in (self._send(send), gone(receive), self._watch(send))
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended, *_ = await asyncio.gather(*tasks, return_exceptions=True)
            if self._on_close is not None:
                await self._on_close()
        if isinstance(ended, Exception) and not isinstance(ended, OSError):
            raise ended  # a client that is gone is no mistake of ours

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            self._sent = asyncio.get_running_loop().time()
            async for each in events:
                await self._write(send, each)
            self._sent = inf
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send, body: bytes) -> None:
        time = asyncio.get_running_loop().time
        self._sent = inf
        for at in range(0, len(body), SLICE):
            part = body[at : at + SLICE]
            self._sending = time()
            await send({"type": "http.response.body", "body": part, "more_body": True})
        self._sending = inf
        self._sent = time()

    async def _watch(self, send: Send) -> None:
        """Sends the beats; ends when the client stalls. A timeout around each send would cost more
        than what is sent."""
        time = asyncio.get_running_loop().time
        while (now := time()) < self._sending + self._stall_s:
            if now >= self._sent + BEAT_S:
                self._sent = inf
                async with asyncio.timeout(self._stall_s):
                    await send({"type": "http.response.body", "body": BEAT, "more_body": True})
                self._sent = inf if self._sending < inf else time()
                continue
            wakes = min(min(now, self._sent) + BEAT_S, min(now, self._sending) + self._stall_s)
            await asyncio.sleep(wakes - now)


async def first_of(
    request: Request, items: AsyncGenerator[T, None]
) -> tuple[asyncio.Future[T], Callable[[], Awaitable[None]]]:
    """The first item, awaited for `HEAD_S` seconds at most, and what closes all: for a stream.

    What goes wrong in that time is raised, so that the answer has a status that says so; `Refused`
    once the client is gone. Later the stream begins without it, for proxies to keep the connection.
    """
    first = asyncio.ensure_future(anext(items))

    async def close() -> None:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await items.aclose()

    try:
        await while_connected(request, asyncio.wait({first}, timeout=HEAD_S))
        if first.done():
            first.result()
    except BaseException:
        await close()
        raise
    return first, close


async def gone(receive: Receive) -> None:
    """Until the client is gone; its body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; once the client is gone it is cancelled, and `Refused` raised."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(gone(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left = not working.done()
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    if left and working.cancelled():
        raise Refused(499, "the client is gone", code="cancelled")
    return working.result()

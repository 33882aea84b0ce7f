"""Listens, and stops without cutting anybody off: the first SIGTERM or SIGINT drains, a second one
ends at once.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import uvicorn
from fastapi import FastAPI

from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.engine import Engine
from ramet.runtime.server.app import create_app
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.connection import HEAD_BYTES, Connection
from ramet.runtime.server.context import Server
from ramet.runtime.server.errors import Refused

log = logging.getLogger("ramet.server")

CLOSE_S = 5.0
"""Seconds for a client to take something of its answer, and for the engine to end, once nothing
runs any more."""

COLLECTIONS = (5_000, 10, 3)
"""As `gc.set_threshold`: seldom, since what a server makes goes when it is over, all but errors;
and full ones after fewer of those before than Python's 10, so that they are shorter."""

LOOK_S = 0.1
"""Seconds between two looks at what clients have taken."""


def serve(
    engine: Engine, config: ServerConfig, on_listen: Callable[[str], None] = lambda url: None
) -> None:
    """Serve until a signal says stop; the engine is closed then.

    Args:
        on_listen: is told the address, once connections are taken.

    Raises:
        OSError: the address cannot be listened on.
        LibraryError: the folder of the library cannot be used.
    """
    with closing(listen(config)) as listening:
        asyncio.run(_serve(engine, config, listening, on_listen))


async def _serve(
    engine: Engine, config: ServerConfig, listening: socket.socket, on_listen: Callable[[str], None]
) -> None:
    running = AsyncEngine.of(engine)
    try:
        listener = Listener(create_app(running, config))
        with short_pauses():
            on_listen(_url(listening))
            await listener.serve([listening])
    finally:
        await _close(running)


async def _close(running: AsyncEngine) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await running.close()
    except TimeoutError:
        log.error("the engine does not end; leaving it")
        os._exit(1)  # a thread that is stuck in a step cannot be joined


class _Taking:
    """An answer that a client takes, while the server ends."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._cycle = connection.cycle
        self._unsent = connection.unsent
        self._since = connection.loop.time()

    def goes_on(self) -> bool:
        """Whether to wait for it; cuts a client that takes nothing for `CLOSE_S` seconds."""
        if self.connection.cycle is not self._cycle or not self.connection.busy:
            return False
        now = self.connection.loop.time()
        if self.connection.unsent != self._unsent:
            self._unsent, self._since = self.connection.unsent, now
        if now - self._since <= CLOSE_S:
            return True
        if self._unsent:
            self.connection.transport.abort()
        return False


class Listener(uvicorn.Server):
    """The HTTP side of one application."""

    def __init__(self, app: FastAPI) -> None:
        self._app: Server = app.state.server
        self._draining: asyncio.Task[None] | None = None
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,  # paths may carry names that clients chose
                server_header=False,
                timeout_graceful_shutdown=int(CLOSE_S),
                h11_max_incomplete_event_size=HEAD_BYTES,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours instead of uvicorn's, which stops listening first and ends by the signal."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for each in signals:
            loop.add_signal_handler(each, self.stop)
        try:
            yield
        finally:
            for each in signals:
                loop.remove_signal_handler(each)

    def stop(self) -> None:
        """Drain; called again, end at once."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        else:
            self._end()
            self.should_exit = self.force_exit = True

    async def _drain(self) -> None:
        """New runs are refused, those that are there end, and at the deadline are told so."""
        turns, deadline = self._app.runs.turns, self._app.config.drain_s
        turns.closed = True
        log.warning("draining: %d runs", turns.running + turns.waiting)
        try:
            async with asyncio.timeout(deadline):
                await turns.idle()
        except TimeoutError:
            self._end()
        await self._taken()
        self.should_exit = True

    async def _taken(self) -> None:
        """Until those who read them have the answers that are on their way, `stall_s` seconds at
        most. What is asked from now on is refused, and not waited for."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._app.config.stall_s
        waited = [_Taking(each) for each in self._connections() if each.busy]
        while loop.time() < ends:
            here = self._connections()
            waited = [each for each in waited if each.connection in here and each.goes_on()]
            if not waited:
                return
            await asyncio.sleep(LOOK_S)

    def _connections(self) -> list[Connection]:
        return [each for each in self.server_state.connections if isinstance(each, Connection)]

    def _end(self) -> None:
        self._app.runs.end_all(
            Refused(503, "the server is shutting down", code="draining", retry=1)
        )


@contextmanager
def short_pauses() -> Iterator[None]:
    """Inside, the garbage collector leaves alone what is there by now. A model and its libraries
    are half a million objects that stay: to look at them all takes 0.2 seconds, in which nobody is
    answered and no step begins."""
    gc.collect()
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(*COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def listen(config: ServerConfig) -> socket.socket:
    """A socket on the address; `OSError` if it cannot be had."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    return socket.create_server((config.host, config.port), family=family, backlog=2_048)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

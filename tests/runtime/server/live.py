"""A server on a loopback socket, with clients that know nothing of it but its address."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
import uvicorn

from ramet.runtime import AsyncEngine, Engine
from ramet.runtime.server import ServerConfig, create_app
from tests.runtime.conftest import all_back


@dataclass(frozen=True, slots=True)
class Live:
    """A server that listens."""

    url: str
    engine: Engine
    openai: openai.OpenAI
    http: httpx2.Client

    def all_back(self, within: float = 2.0) -> bool:
        """Whether every block, sequence and task is given back in that many seconds."""
        ends = time.monotonic() + within
        while time.monotonic() < ends:
            stats = self.engine.stats()
            if (stats.cache.held, stats.sequences, stats.waiting, stats.running) == (0, 0, 0, 0):
                return True
            time.sleep(0.005)
        return False


@contextmanager
def live(engine: Engine, *, token: str = "none", **config: Any) -> Iterator[Live]:
    """The server inside; afterwards nothing may be held. `token` is the key of its clients."""
    server, ready = None, threading.Event()

    async def serve() -> None:
        nonlocal server
        async with AsyncEngine.of(engine) as served:
            app = create_app(served, ServerConfig(**config))
            server = uvicorn.Server(
                uvicorn.Config(
                    app, port=0, log_level="error", ws="none", timeout_graceful_shutdown=1
                )
            )
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup()
            ready.set()
            await server.main_loop()
            await server.shutdown()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="server")
    thread.start()
    try:
        assert ready.wait(10), "the server did not begin"
        assert server is not None
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with (
            httpx2.Client(base_url=url, timeout=20) as http,
            openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0, timeout=20) as client,
        ):
            each = Live(url, engine, client, http)
            yield each
            assert each.all_back()
    finally:
        if server is not None:
            server.should_exit = True
        thread.join(10)
    assert not thread.is_alive(), "the server did not end"
    assert all_back(engine.core)

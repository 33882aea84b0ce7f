"""A server on the toy engine, asked in process through ASGI."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from fastapi import FastAPI
from transformers import PreTrainedTokenizerFast

from ramet.runtime import AsyncEngine, Engine, EngineConfig
from ramet.runtime.server import ServerConfig, create_app
from ramet.runtime.server.serve import Listener, serve as serve_it
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyModel, all_back, byte_backend

BLOCKS = 256


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs, and a client of it."""

    app: FastAPI
    client: httpx2.AsyncClient
    engine: AsyncEngine
    model: ToyModel

    async def all_back(self, within: float = 1.0) -> bool:
        """Whether every block, sequence and task is given back in that many seconds."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + within
        while True:
            stats = await self.engine.stats()
            held = (stats.cache.held, stats.sequences, stats.waiting, stats.running)
            if held == (0, 0, 0, 0):
                return True
            if loop.time() > ends:
                return False
            await asyncio.sleep(0.005)


Body = Callable[[Served], Awaitable[None]]


@asynccontextmanager
async def serving(
    tokenizer: Tokenizer, *, key: str | None = None, context: int = 4096, **config: Any
) -> AsyncGenerator[Served, None]:
    """The server inside; afterwards nothing may be held. `key` is what the client sends."""
    model = ToyModel(context)
    engine = Engine.of(model, tokenizer, EngineConfig(num_blocks=BLOCKS))
    async with AsyncEngine.of(engine) as served:
        app = create_app(served, ServerConfig(**config))
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(
                transport=transport, base_url="http://localhost", headers=headers
            ) as client,
        ):
            each = Served(app, client, served, model)
            yield each
            assert await each.all_back()
    assert all_back(engine.core)


def serve(tokenizer: Tokenizer, body: Body, **settings: Any) -> None:
    """Run a coroutine against a server; `settings` as for `serving`."""

    async def main() -> None:
        async with serving(tokenizer, **settings) as served:
            await body(served)

    asyncio.run(main())


def routes_of(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Every method and path, those of included routers and mounted applications too."""
    for route in routes:
        if (router := getattr(route, "original_router", None)) is not None:
            yield from routes_of(router.routes)
            continue
        methods = getattr(route, "methods", None)
        yield from ((method, route.path) for method in methods or {"GET"})


@asynccontextmanager
async def listening(
    tokenizer: Tokenizer, *, key: str | None = None, context: int = 4096, **config: Any
) -> AsyncGenerator[tuple[Served, Listener], None]:
    """As `serving`, on a socket; afterwards it is told to stop, and ends."""
    engine = Engine.of(ToyModel(context), tokenizer, EngineConfig(num_blocks=BLOCKS))
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with AsyncEngine.of(engine) as served:
        app = create_app(served, ServerConfig(**config))
        listener = Listener(app)
        with socket.create_server(("127.0.0.1", 0)) as free:
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
            running = asyncio.create_task(listener.serve([free]))
            async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
                model = engine.core.model
                assert isinstance(model, ToyModel)
                yield Served(app, client, served, model), listener
            listener.should_exit = True
            async with asyncio.timeout(10):
                await running
    assert all_back(engine.core)


def toy_server(**config: Any) -> None:
    """A server on the toy model that listens; prints its address. For a process of its own."""
    engine = Engine.of(
        ToyModel(),
        Tokenizer(PreTrainedTokenizerFast(tokenizer_object=byte_backend(), eos_token="<eos>")),
        EngineConfig(num_blocks=BLOCKS),
    )
    serve_it(engine, ServerConfig(port=0, **config), lambda url: print(url, flush=True))

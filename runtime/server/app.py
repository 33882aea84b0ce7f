"""Puts the server together: middleware, error answers, routes, and what runs beside them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from ramet.errors import RametError
from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.server import errors
from ramet.runtime.server.aside import Aside
from ramet.runtime.server.auth import Keys
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.context import Server
from ramet.runtime.server.document import Documented
from ramet.runtime.server.gate import Gate
from ramet.runtime.server.health import Health
from ramet.runtime.server.idempotency import Idempotency
from ramet.runtime.server.jobs import Jobs
from ramet.runtime.server.metrics import Metrics
from ramet.runtime.server.middleware import BodyLimit, Boundary, KeyCheck
from ramet.runtime.server.openai.prompts import Prompts
from ramet.runtime.server.pins import Pins
from ramet.runtime.server.public import declare, public_tokens
from ramet.runtime.server.routes import ROUTERS
from ramet.runtime.server.routes.programs import plan_of
from ramet.runtime.server.runs import Runs
from ramet.runtime.server.stored import Library

SILENT = TelemetryConfig(tracing=False, metrics=False, logs=False, auto_configure=False)
"""Of FastAPI's telemetry, which would record what clients send, nothing."""


def create_app(engine: AsyncEngine, config: ServerConfig) -> FastAPI:
    """The application. The engine stays the caller's, who closes it.

    Raises:
        ConfigError: what shall be public cannot be.
        LibraryError: the folder of the library cannot be used.
    """
    public = public_tokens(engine.engine.core, config.public)
    runs = Runs(engine, config)
    metrics = Metrics(runs.turns)
    jobs = Jobs(runs, metrics, config)
    server = Server(
        engine,
        config,
        runs,
        Health(engine, runs, config),
        jobs,
        Idempotency(jobs),
        Library(config),
        metrics,
        Prompts(engine.engine.tokenizer),
        Pins(engine, config),
        Aside(config.checking, shared=config.several_tenants),
        Aside(config.running + config.queue),
    )
    server.library.load(lambda sent: plan_of(server, sent, {}))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        if public:
            await engine.ask(lambda core: declare(core, public))
        watching = asyncio.create_task(server.health.watch())
        try:
            yield
        finally:
            await jobs.close()
            server.checks.close()
            server.starts.close()
            server.library.close()
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    app = Documented(
        keyed=bool(config.keys),
        title="ramet",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=SILENT,
    )
    app.state.server = server
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, most=config.body_bytes, stall_s=config.stall_s)
    app.add_middleware(Gate, turns=runs.turns)
    app.add_middleware(KeyCheck, keys=Keys(config.keys))
    app.add_middleware(Boundary, answered=metrics.answered)
    app.add_exception_handler(RametError, errors.on_ramet_error)
    app.add_exception_handler(RequestValidationError, errors.on_validation)
    app.add_exception_handler(HTTPException, errors.on_http_error)
    for router in ROUTERS:
        app.include_router(router)
    return app

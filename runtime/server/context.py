"""What a route gets: the server, and the tenant who asks."""

import logging
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.server.aside import Aside
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.health import Health
from ramet.runtime.server.idempotency import Idempotency
from ramet.runtime.server.jobs import Jobs
from ramet.runtime.server.metrics import Metrics
from ramet.runtime.server.openai.prompts import Prompts
from ramet.runtime.server.pins import Pins
from ramet.runtime.server.runs import Runs
from ramet.runtime.server.stored import Library

log = logging.getLogger("ramet.server")


@dataclass(frozen=True, slots=True)
class Server:
    """One engine, and who decides about it. All of it belongs to one event loop, but the engine."""

    engine: AsyncEngine
    config: ServerConfig
    runs: Runs
    health: Health
    jobs: Jobs
    idempotency: Idempotency
    library: Library
    metrics: Metrics
    prompts: Prompts
    pins: Pins
    checks: Aside  # of programs, and plans of them
    starts: Aside  # programs to be run, as they are read

    @property
    def most_bytes(self) -> int:
        """Of one text; a longer one is not even made into tokens."""
        return self.config.prompt_bytes_per_token * self.engine.engine.core.context

    def room(self, tokens: int) -> int:
        """How many tokens can follow a prompt of so many; 0 or less: none."""
        core = self.engine.engine.core
        return min(core.context, (core.pool.num_blocks - 1) * core.pool.block_size) - tokens


# Coroutines: FastAPI would take each other function to a thread, twice for every request.


async def server(request: Request) -> Server:
    return request.app.state.server


async def tenant(request: Request) -> Tenant:
    """Put there by the middleware that checks keys, which lets nobody else through."""
    return request.state.tenant


TheServer = Annotated[Server, Depends(server)]
TheTenant = Annotated[Tenant, Depends(tenant)]

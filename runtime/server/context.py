"""What a route gets: the server, and the tenant who asks."""

import logging
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.health import Health
from ramet.runtime.server.runs import Runs

log = logging.getLogger("ramet.server")


@dataclass(frozen=True, slots=True)
class Server:
    """One engine, and who decides about it. All of it belongs to one event loop, but the engine."""

    engine: AsyncEngine
    config: ServerConfig
    runs: Runs
    health: Health


def server(request: Request) -> Server:
    return request.app.state.server


def tenant(request: Request) -> Tenant:
    """Put there by the middleware that checks keys, which lets nobody else through."""
    return request.state.tenant


TheServer = Annotated[Server, Depends(server)]
TheTenant = Annotated[Tenant, Depends(tenant)]

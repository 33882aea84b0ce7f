"""`/health` and `/ready`: the two that need no key."""

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from ramet.runtime.server.context import TheServer
from ramet.runtime.server.document import told
from ramet.runtime.server.errors import RETRY_S
from ramet.runtime.server.shapes import Health

router = APIRouter(tags=["health"])


@router.get("/health", responses=told({200: Health, 503: Health}))
async def health(server: TheServer) -> Response:
    """Whether steps finish: 200, or 503 with what is wrong."""
    return _answer(server.health.trouble)


@router.get("/ready", responses=told({200: Health, 503: Health}))
async def ready(server: TheServer) -> Response:
    """Whether to send requests here: healthy, and not shutting down."""
    trouble = "the server is shutting down" if server.runs.turns.closed else server.health.trouble
    return _answer(trouble)


def _answer(trouble: str | None) -> Response:
    if trouble is None:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": trouble}, 503, {"Retry-After": str(RETRY_S)})

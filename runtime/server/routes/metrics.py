"""`/metrics`: what Prometheus scrapes."""

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from ramet.runtime.server.context import TheServer
from ramet.runtime.server.document import told
from ramet.runtime.server.metrics import CONTENT_TYPE

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=PlainTextResponse, responses=told({}, 503))
async def metrics(server: TheServer) -> Response:
    """Counters, gauges and histograms, as text."""
    stats = await server.engine.stats()
    return Response(server.metrics.text(stats), media_type=CONTENT_TYPE)

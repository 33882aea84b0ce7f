"""The routes, a file for each thing that can be asked for."""

from fastapi import APIRouter

from ramet.runtime.server.routes import (
    cache,
    health,
    library,
    metrics,
    openai,
    page,
    programs,
    sglang,
    tokens,
)

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    programs.router,
    library.router,
    cache.router,
    openai.router,
    tokens.router,
    sglang.router,
    metrics.router,
    page.router,
)
"""All of them; the application includes each."""

"""The routes, a file for each thing that can be asked for."""

from fastapi import APIRouter

from ramet.runtime.server.routes import health, metrics, openai, sglang, tokens

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    openai.router,
    tokens.router,
    sglang.router,
    metrics.router,
)
"""All of them; the application includes each."""

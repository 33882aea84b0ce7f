"""The routes, a file for each thing that can be asked for."""

from fastapi import APIRouter

from ramet.runtime.server.routes import health

ROUTERS: tuple[APIRouter, ...] = (health.router,)
"""All of them; the application includes each."""

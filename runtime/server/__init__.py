"""The server: programs over HTTP, run next to the cache.

A route reads a request and writes an answer. What may run, and for whom, is decided in `runs`.
"""

from ramet.runtime.server.app import create_app
from ramet.runtime.server.config import ServerConfig

__all__ = ["ServerConfig", "create_app"]

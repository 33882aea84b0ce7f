"""Programs on a server: `Client` and `AsyncClient` run what an engine runs, somewhere else.

Sends programs as text or as request graphs, and reads results and events. Knows no engine.
"""

from ramet.client.asynchronous import AsyncClient
from ramet.client.errors import RemoteError
from ramet.client.results import Details, RemoteFinished, RemoteState, RemoteUsage
from ramet.client.synchronous import Client, RemoteStream

__all__ = [
    "AsyncClient",
    "Client",
    "Details",
    "RemoteError",
    "RemoteFinished",
    "RemoteState",
    "RemoteStream",
    "RemoteUsage",
]

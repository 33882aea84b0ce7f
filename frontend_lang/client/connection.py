"""What both clients say over HTTP, and how they read a refusal."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx2

from ramet.client.errors import RemoteError, error_of
from ramet.client.wire import PROGRAMS
from ramet.errors import RametError

CONNECT_S = 10.0
"""Seconds until a server that does not take a connection is given up."""

SILENT_S = 45.0
"""Seconds of silence after which a stream is broken: a server says something every 15 to 30."""

CANCEL_S = 2.0
"""Seconds that it may take to tell a server to cancel; it does so by itself a little later."""


def settings(url: str, key: str | None, timeout: float | None) -> dict[str, Any]:
    """Of an HTTP client; `timeout` is in seconds of silence, None: for ever."""
    return {
        "base_url": url.rstrip("/"),
        "headers": {} if key is None else {"Authorization": f"Bearer {key}"},
        "timeout": httpx2.Timeout(timeout, connect=CONNECT_S),
        "limits": httpx2.Limits(max_connections=None),
        "verify": not url.lower().startswith("http:"),  # which has no certificate to look at
    }


def of_streams(timeout: float | None) -> httpx2.Timeout:
    """How long a stream may be silent."""
    silent = SILENT_S if timeout is None else min(timeout, SILENT_S)
    return httpx2.Timeout(timeout, connect=CONNECT_S, read=silent)


def cancel(url: str, key: str | None, run: Mapping[str, str]) -> None:
    """Cancel what was sent with that key, if the server can be told.

    On a connection of its own: it may be called while the others are in use, and once they are
    closed.
    """
    with suppress(httpx2.HTTPError), httpx2.Client(**settings(url, key, CANCEL_S)) as http:
        http.delete(PROGRAMS, headers={**run}, timeout=CANCEL_S)


def answer_of(response: httpx2.Response) -> Mapping[str, Any]:
    """The JSON of an answer that was read; raises what it tells of."""
    try:
        told = response.json()
    except ValueError:
        told = None
    if isinstance(told, dict) and not response.is_error:
        return told
    raise refusal(response.status_code, told)


def refusal(status: int, told: object) -> RametError:
    """The error of an answer that is none."""
    if isinstance(told, dict) and isinstance(told.get("error"), dict):
        return error_of(told["error"], status)
    return RemoteError(f"the server answered {status}, and nothing that a ramet server says")

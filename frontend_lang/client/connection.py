"""What both clients say over HTTP, and how they read a refusal."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from ramet.client.errors import RemoteError, error_of
from ramet.errors import RametError

CONNECT_S = 10.0
"""Seconds until a server that does not take a connection is given up."""


def settings(url: str, key: str | None, timeout: float | None) -> dict[str, Any]:
    """Of an HTTP client; `timeout` is in seconds of silence, None: for ever."""
    return {
        "base_url": url.rstrip("/"),
        "headers": {} if key is None else {"Authorization": f"Bearer {key}"},
        "timeout": httpx2.Timeout(timeout, connect=CONNECT_S),
        "limits": httpx2.Limits(max_connections=None),
    }


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Inside, a connection that fails is a `RemoteError`."""
    try:
        yield
    except httpx2.HTTPError as error:
        raise RemoteError(f"{url} does not answer: {type(error).__name__}: {error}") from error


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

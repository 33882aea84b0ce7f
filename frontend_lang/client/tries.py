"""What a client does when a connection breaks, or a server is full: whether it tries again, and
when. No connection.
"""

import random
import time

import httpx2

from ramet.client.errors import RemoteError

BACKOFF_S = 0.1
"""Seconds before the first try after a break; twice as many before each one more."""

MOST_BACKOFF_S = 2.0

MOST_WAIT_S = 30.0
"""Seconds that a server may ask a client to wait; more are its user's affair."""

FULL = frozenset({429, 502, 503, 504})
"""Answers after which the same may be asked again: of a server, or of what stands before it."""

_BROKEN = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError)


class Tries:
    """Counts the failures in a row of one request, or of one stream.

    Args:
        most: failures in a row after which there is another try.
        timeout: seconds without a word of the server after which there is none; None: for ever.
    """

    def __init__(self, url: str, most: int, timeout: float | None) -> None:
        self._url = url
        self._most = most
        self._timeout = timeout
        self._failed = 0
        self._heard = time.monotonic()
        self._last = 0

    def heard(self, last: int) -> None:
        """The server said something, and the last event by now is this one: a new one ends a row
        of failures."""
        self._heard = time.monotonic()
        if last > self._last:
            self._last, self._failed = last, 0

    def broken(self, error: httpx2.HTTPError) -> float:
        """Seconds to wait before the next try; raises `RemoteError` if there is none."""
        wait = None if not isinstance(error, _BROKEN) else self._wait(self._backoff())
        if wait is None:
            raise RemoteError(
                f"{self._url} does not answer: {type(error).__name__}: {error}"
            ) from error
        return wait

    def refused(self, response: httpx2.Response) -> float | None:
        """Seconds to wait before the same is asked again; None if the answer is the last word."""
        if response.status_code not in FULL:
            return None
        after = response.headers.get("Retry-After", "")
        wait = float(after) if after.isdecimal() else self._backoff()
        return None if wait > MOST_WAIT_S else self._wait(wait)

    def _backoff(self) -> float:
        most = min(MOST_BACKOFF_S, BACKOFF_S * 2**self._failed)
        return most * random.uniform(0.5, 1)  # so that many clients do not come at once

    def _wait(self, seconds: float) -> float | None:
        """So long, if there is a try after it."""
        silent = time.monotonic() - self._heard
        if self._timeout is not None and silent + seconds >= self._timeout:
            return None
        self._failed += 1
        return seconds if self._failed <= self._most else None

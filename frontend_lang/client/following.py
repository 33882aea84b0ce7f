"""One run on a server: how it is asked for, also again, so that it runs once, and how its events
are read, so that each comes once. No connection.
"""

import json
import secrets
from collections.abc import Mapping
from typing import Any

import httpx2

from ramet.client.errors import RemoteError
from ramet.client.results import RemoteFinished
from ramet.client.wire import PROGRAMS, item_of
from ramet.events import Event

LINGER_S = 20.0
"""Seconds that a server lets a run go on whose connection broke; then it is cancelled there."""


class Asking:
    """A run, under a key: what is sent again does not run again.

    Args:
        returns: whether its client comes back after a break; else a break cancels it.
    """

    def __init__(self, body: Mapping[str, Any], *, returns: bool) -> None:
        self.key = {"Idempotency-Key": secrets.token_hex(16)}
        self.over = False  # there: nothing of it is left to cancel
        self._body = {**body, "linger": LINGER_S if returns else 0}

    def request(self) -> dict[str, Any]:
        """What an HTTP client is told."""
        return {"method": "POST", "url": PROGRAMS, "json": self._body, "headers": self.key}


class Following(Asking):
    """A run with the stream of its events, in as many answers as it takes."""

    def __init__(self, body: Mapping[str, Any], *, returns: bool) -> None:
        super().__init__({**body, "stream": True}, returns=returns)
        self.last = 0  # the id of the newest event
        self.ended = False  # its result has come
        self._id: str | None = None
        self._fields: dict[str, str] = {}  # of the event that is being read

    def request(self) -> dict[str, Any]:
        """For the run; once there is one, for the events that did not come yet."""
        if self._id is None:
            return super().request()
        headers = {"Last-Event-ID": str(self.last)}
        return {"method": "GET", "url": f"{PROGRAMS}/{self._id}/events", "headers": headers}

    def began(self, response: httpx2.Response) -> None:
        """There is an answer; what was read of a broken one does not count."""
        self._id = response.headers.get("X-Program-Id", self._id)
        self._fields = {}

    def refused(self) -> None:
        """There is an answer that is no stream."""
        self.over = self._id is None

    def read(self, line: str) -> Event | RemoteFinished | None:
        """What a line tells, if anything; raises the error that it tells of. An event is told when
        it is whole."""
        if line:
            name, _, value = line.partition(": ")
            self._fields[name] = value
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields or not self._is_next(fields.get("id")):
            return None
        name = fields.get("event", "")
        if "id" in fields:  # else it is of this answer, and not of the run
            self.over |= name in ("done", "error")
        item = item_of(name, json.loads(fields["data"]))
        self.ended |= isinstance(item, RemoteFinished)
        return item

    def _is_next(self, id: str | None) -> bool:
        if id is None:
            return True
        at = int(id)
        if at > self.last + 1:
            raise RemoteError(
                f"the server does not have the events {self.last + 1} to {at - 1} any more",
                code="events_dropped",
            )
        new = at > self.last
        self.last = max(at, self.last)
        return new

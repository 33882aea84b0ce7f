"""Refuses a request for which there is no room before its body is read. Plain ASGI.

Under more load than a server can take, most of its time would go into reading what it refuses.
What a request asks for is not known here: it is looked at as one run of no text.
"""

import re
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ramet.runtime.server.turns import Turns

RUNS = re.compile(r"/v1/(programs|library/[^/]+/runs|completions|chat/completions)|/generate")
"""Where a request runs something, by POST."""

SMALL = 65_536
"""Bytes of a body that its client has sent before it looks for an answer. Of a larger one the rest
would still come, and the connection be cut before the refusal is read."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Stands behind the check of keys, which notes the tenant.

    A request with an `Idempotency-Key` may ask for a run that is there already, so it passes.
    """

    app: ASGIApp
    turns: Turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and RUNS.fullmatch(scope["path"]):
            headers = Request(scope).headers
            size = headers.get("content-length", "")
            small = size.isdecimal() and len(size) <= 6 and int(size) <= SMALL
            if small and "idempotency-key" not in headers:
                self.turns.check(scope["state"]["tenant"])
        await self.app(scope, receive, send)

"""What every request passes through, outermost first: an id, a boundary for what nobody expected,
the key and where the request comes from, the size of the body. Plain ASGI, so that a client who
leaves is noticed at once.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ramet.runtime.server.auth import Keys
from ramet.runtime.server.config import is_loopback
from ramet.runtime.server.errors import Refused, refused, respond

log = logging.getLogger("ramet.server")

OPEN = frozenset({"/health", "/ready"})
"""The paths that need no key."""


_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),  # no part of another site's page
    (b"cache-control", b"no-store"),
)
"""Headers of every answer that says nothing else."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Gives each request an id, made here, and answers with it; what fails is told without its
    insides, and logged by its type and place."""

    app: ASGIApp
    answered: Callable[[str, int], None]  # told of each answer's route and status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = id
        begun = False

        async def told(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self.answered(getattr(scope.get("route"), "path", ""), message["status"])
                theirs = [*message.get("headers", ())]
                named = {name.lower() for name, _ in theirs}
                ours = [each for each in _ALWAYS if each[0] not in named]
                message = {**message, "headers": [*theirs, *ours, (b"x-request-id", id.encode())]}
            await send(message)

        try:
            await self.app(scope, receive, told)
        except Exception as error:
            answer = self._answer(error, id)
            if not begun:
                await answer(scope, receive, told)

    def _answer(self, error: Exception, id: str) -> Response:
        """Not where it is caught: an error that its own frame holds waits there, with all that it
        came through, for the garbage collector."""
        known = refused(error)
        if known.status == 500:
            log.error("%s failed: %s at %s", id, type(error).__name__, _place(error))
        return respond(known)


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """Lets in whoever has a key, and notes the tenant. Everything but `OPEN` needs one.

    Without keys it lets in who calls this machine by a name of its own: a browser that was led here
    by another site's name (DNS rebinding) sends that. A browser gives the key it was told, and
    reaches this machine, for every site: what another site makes it send changes nothing.
    """

    app: ASGIApp
    keys: Keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # there is no websocket here
            return await send({"type": "websocket.close", "code": 1008})
        if scope["path"] not in OPEN:
            refusal = self._admit(scope)
            if refusal is not None:
                return await respond(refusal)(scope, receive, send)
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> Refused | None:
        if scope["method"] not in ("GET", "HEAD") and _of_another_site(scope):
            message = "a page of another site sent this; only pages of this server may"
            return Refused(403, message, code="cross_site")
        tenant = self.keys.tenant(_headers(scope, b"authorization"))
        if tenant is None:
            message = "a key is needed: send `Authorization: Bearer KEY`"
            return Refused(401, message, code="invalid_api_key")
        if not self.keys.there:
            hosts = [host.decode("latin-1") for host in _headers(scope, b"host")]
            if len(hosts) > 1 or not all(is_loopback(_name(host)) for host in hosts):
                message = "without keys, this server answers to localhost and 127.0.0.1 only"
                return Refused(403, message, code="wrong_host")
        scope.setdefault("state", {})["tenant"] = tenant
        return None


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """Refuses a body over the limit, by its declared length or while it is read, and one that is
    not there after `stall_s` seconds."""

    app: ASGIApp
    most: int
    stall_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = Request(scope).headers.get("content-length", "0")
        if not declared.isdecimal() or len(declared) > 18 or int(declared) > self.most:
            raise self._refused()
        read = 0
        refusal: Refused | None = None
        ends: float | None = asyncio.get_running_loop().time() + self.stall_s

        async def limited() -> Message:
            nonlocal read, refusal, ends
            try:
                async with asyncio.timeout_at(ends):
                    message = await receive()
            except TimeoutError:
                refusal = self._late()
                raise refusal from None
            read += len(message.get("body", b""))
            if read > self.most:
                refusal = self._refused()
                raise refusal
            if not message.get("more_body", False):
                ends = None  # from here on it is told when the client leaves
            return message

        async def unless_refused(message: Message) -> None:
            if refusal is None:  # a route that makes another error of it is not heard
                await send(message)

        await self.app(scope, limited, unless_refused)
        if refusal is not None:
            raise refusal

    def _refused(self) -> Refused:
        return Refused(
            413, f"the body is larger than {self.most:,} bytes", code="body_too_large", param="body"
        )

    def _late(self) -> Refused:
        message = f"the body did not come within {self.stall_s:g} seconds"
        return Refused(408, message, code="body_too_slow", param="body")


def _of_another_site(scope: Scope) -> bool:
    """By what a browser says, and no page can change: `Sec-Fetch-Site`, or else `Origin`."""
    if sites := _headers(scope, b"sec-fetch-site"):
        return any(site not in (b"same-origin", b"none") for site in sites)
    here = [host.lower() for host in _headers(scope, b"host")]
    origins = _headers(scope, b"origin")
    return any([origin.partition(b"://")[2].lower()] != here for origin in origins)


def _headers(scope: Scope, name: bytes) -> list[bytes]:
    return [value for each, value in scope["headers"] if each == name]


def _name(host: str) -> str:
    """Without its port, and an address without its brackets."""
    return host.rpartition(":")[0].strip("[]") if re.search(r":\d+$", host) else host.strip("[]")


def _place(error: BaseException) -> str:
    """The last line of ours that it came through; never what it says, which may be a prompt."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        place = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place

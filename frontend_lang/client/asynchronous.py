"""A client for coroutines: what an `AsyncEngine` runs, on a server."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from contextvars import Token
from copy import copy
from typing import Any, Self

import httpx2

from ramet import default
from ramet.client.connection import CANCEL_S, answer_of, of_streams, settings
from ramet.client.following import Asking, Following
from ramet.client.results import RemoteFinished
from ramet.client.tries import Tries
from ramet.client.wire import PROGRAMS, Sendable, batch_order, options, order, outcomes_of
from ramet.events import Event


class AsyncClient:
    """Runs programs on a server.

    async with ramet.AsyncClient("http://127.0.0.1:8000") as client:
        result = await client.run(tips, topic="tea")
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float | None = None,
        reconnects: int = 4,
    ) -> None:
        """As for `Client`."""
        self.url = url
        self.timeout = timeout
        self.reconnects = reconnects
        self._http = httpx2.AsyncClient(**settings(url, key, timeout))
        self._token: Token[default.Runner] | None = None
        self._options: Mapping[str, Any] = {}

    def with_options(
        self, *, seed: int | None = None, limits: Mapping[str, float] | None = None
    ) -> Self:
        """As `Client.with_options`."""
        other = copy(self)
        other._options, other._token = {**self._options, **options(seed, limits)}, None
        return other

    async def run(self, program: Sendable, /, *args: Any, **kwargs: Any) -> RemoteFinished:
        """Run a program there; as `Client.run`. Cancelling cancels it."""
        told = await self._post(order(program, args, kwargs))
        return RemoteFinished.of(told["result"])

    async def run_batch(
        self, program: Sendable, arguments: Sequence[Mapping[str, Any]], /
    ) -> list[RemoteFinished | Exception]:
        """Run once for each mapping; as `Client.run_batch`."""
        return outcomes_of(await self._post(batch_order(program, arguments)))

    async def stream(
        self, program: Sendable, /, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[Event | RemoteFinished, None]:
        """The events of a run as they come, and its result as the last item. Closing it early
        cancels the run."""
        body = {**order(program, args, kwargs), **self._options}
        following = Following(body, returns=self.reconnects > 0)
        tries = Tries(self.url, self.reconnects, self.timeout)
        silence = of_streams(self.timeout)
        try:
            while not following.over:
                try:
                    sent = self._http.stream(**following.request(), timeout=silence)
                    async with sent as response:
                        wait = tries.refused(response)
                        if wait is None:
                            if response.is_error:
                                await response.aread()
                                following.refused()
                                answer_of(response)
                            following.began(response)
                            async for line in response.aiter_lines():
                                item = following.read(line)
                                if item is not None:
                                    yield item
                                tries.heard(following.last)
                            if following.over:
                                return
                            raise httpx2.RemoteProtocolError("the stream ended before the run did")
                except httpx2.HTTPError as error:
                    if following.ended:
                        return
                    wait = tries.broken(error)
                await asyncio.sleep(wait)
        finally:
            if not (following.over or following.ended):
                await self._cancel(following)

    async def _post(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        asking = Asking({**body, **self._options}, returns=self.reconnects > 0)
        tries = Tries(self.url, self.reconnects, self.timeout)
        try:
            while True:
                try:
                    response = await self._http.request(**asking.request())
                    wait = tries.refused(response)
                    if wait is None:
                        asking.over = True
                        return answer_of(response)
                except httpx2.HTTPError as error:
                    wait = tries.broken(error)
                await asyncio.sleep(wait)
        finally:
            if not asking.over:
                await self._cancel(asking)

    async def _cancel(self, asking: Asking) -> None:
        with suppress(httpx2.HTTPError, RuntimeError):  # the client may be closed by now
            await self._http.delete(PROGRAMS, headers=asking.key, timeout=CANCEL_S)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Inside, `await program.run(...)` runs there."""
        self._token = default.set_default(self)
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._token is not None:
            default.reset(self._token)
            self._token = None
        await self.close()

"""A client for coroutines: what an `AsyncEngine` runs, on a server."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextvars import Token
from copy import copy
from typing import Any, Self

import httpx2

from ramet import default
from ramet.client.connection import answer_of, answering, settings
from ramet.client.errors import RemoteError
from ramet.client.results import RemoteFinished
from ramet.client.wire import PROGRAMS, Events, Sendable, batch_order, options, order, outcomes_of
from ramet.events import Event


class AsyncClient:
    """Runs programs on a server.

    async with ramet.AsyncClient("http://127.0.0.1:8000") as client:
        result = await client.run(tips, topic="tea")
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float | None = None) -> None:
        """As for `Client`."""
        self.url = url
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
        events = Events()
        body = {**order(program, args, kwargs), **self._options, "stream": True}
        with answering(self.url):
            async with self._http.stream("POST", PROGRAMS, json=body) as response:
                if response.is_error:
                    await response.aread()
                    answer_of(response)
                async for line in response.aiter_lines():
                    item = events.read(line)
                    if item is not None:
                        yield item
                    if isinstance(item, RemoteFinished):
                        return
        raise RemoteError("the stream ended before the run did")

    async def _post(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        with answering(self.url):
            response = await self._http.post(PROGRAMS, json={**body, **self._options})
        return answer_of(response)

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

"""A client for one thread or many: what an `Engine` runs, on a server."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextvars import Token
from copy import copy
from typing import Any, Self

import httpx2

from ramet import default
from ramet.client.connection import answer_of, cancel, of_streams, settings
from ramet.client.errors import RemoteError
from ramet.client.following import Asking, Following
from ramet.client.results import RemoteFinished
from ramet.client.tries import Tries
from ramet.client.wire import Sendable, batch_order, options, order, outcomes_of
from ramet.events import Event


class Client:
    """Runs programs on a server.

    with ramet.Client("http://127.0.0.1:8000") as client:
        print(client.run(tips, topic="tea").value)
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float | None = None,
        reconnects: int = 4,
    ) -> None:
        """
        Args:
            key: what the server asks for, if it has keys.
            timeout: seconds of silence after which a request is given up; None: for ever.
            reconnects: how often in a row it tries again when a connection breaks, or the server is
                full. A run goes on meanwhile, and its events after the last one that came; with 0 a
                break cancels it.
        """
        self.url = url
        self.key = key
        self.timeout = timeout
        self.reconnects = reconnects
        self._http = httpx2.Client(**settings(url, key, timeout))
        self._token: Token[default.Runner] | None = None
        self._options: Mapping[str, Any] = {}

    def with_options(
        self, *, seed: int | None = None, limits: Mapping[str, float] | None = None
    ) -> Self:
        """This client, for runs that differ: with the same connections, which close with either.

        Args:
            seed: from which every draw follows by its place; item i of a batch adds i.
            limits: lower than those of the server, as `{"tokens": 100}`.
        """
        other = copy(self)
        other._options, other._token = {**self._options, **options(seed, limits)}, None
        return other

    def run(self, program: Sendable, /, *args: Any, **kwargs: Any) -> RemoteFinished:
        """Run a program there, and wait for it. Leaving cancels it.

        Raises:
            LanguageError: the program, or its arguments, are wrong.
            RemoteError: it was refused, or failed, or the server does not answer.
        """
        return RemoteFinished.of(self._post(order(program, args, kwargs))["result"])

    def run_batch(
        self, program: Sendable, arguments: Sequence[Mapping[str, Any]], /
    ) -> list[RemoteFinished | Exception]:
        """Run once for each mapping, sharing; each item's result, or its error, in its place."""
        return outcomes_of(self._post(batch_order(program, arguments)))

    def stream(self, program: Sendable, /, *args: Any, **kwargs: Any) -> "RemoteStream":
        """Run a program there, and hand out its events while it runs."""
        body = {**order(program, args, kwargs), **self._options}
        following = Following(body, returns=self.reconnects > 0)
        return RemoteStream(_items(self, self._http, following))

    def _post(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        asking = Asking({**body, **self._options}, returns=self.reconnects > 0)
        tries = Tries(self.url, self.reconnects, self.timeout)
        try:
            while True:
                try:
                    response = self._http.request(**asking.request())
                    wait = tries.refused(response)
                    if wait is None:
                        asking.over = True
                        return answer_of(response)
                except httpx2.HTTPError as error:
                    wait = tries.broken(error)
                time.sleep(wait)
        finally:
            if not asking.over:
                cancel(self.url, self.key, asking.key)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        """Inside, `program.run(...)` runs there."""
        self._token = default.set_default(self)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._token is not None:
            default.reset(self._token)
            self._token = None
        self.close()


class RemoteStream(Iterator[Event]):
    """The events of a run; `result()` when they are through. Closing it early cancels the run."""

    def __init__(self, items: Generator[Event | RemoteFinished | None]) -> None:
        """
        Args:
            items: the first one is None, as soon as there is an answer.
        """
        self._items = items
        self._result: RemoteFinished | None = None
        next(items)

    def __next__(self) -> Event:
        for item in self._items:
            if isinstance(item, RemoteFinished):
                self._result = item
            elif item is not None:
                return item
        if self._result is None:
            raise RemoteError("the stream is closed, and the run was not over")
        raise StopIteration

    def result(self) -> RemoteFinished:
        """Run on to the end; events that nobody took are dropped."""
        for _ in self:
            pass
        assert self._result is not None, "a stream without a result raises"
        return self._result

    def close(self) -> None:
        """Cancel the run, if it is not over."""
        self._items.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _items(
    client: Client, http: httpx2.Client, following: Following
) -> Generator[Event | RemoteFinished | None]:
    """What a stream tells, and None as often as there is an answer. Closing it cancels the run."""
    tries = Tries(client.url, client.reconnects, client.timeout)
    silence = of_streams(client.timeout)
    try:
        while not following.over:
            try:
                with http.stream(**following.request(), timeout=silence) as response:
                    wait = tries.refused(response)
                    if wait is None:
                        if response.is_error:
                            response.read()
                            following.refused()
                            answer_of(response)
                        following.began(response)
                        yield None
                        for line in response.iter_lines():
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
            time.sleep(wait)
    finally:
        if not (following.over or following.ended):
            cancel(client.url, client.key, following.key)

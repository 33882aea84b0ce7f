"""A client for one thread or many: what an `Engine` runs, on a server."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
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


class Client:
    """Runs programs on a server.

    with ramet.Client("http://127.0.0.1:8000") as client:
        print(client.run(tips, topic="tea").value)
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float | None = None) -> None:
        """
        Args:
            key: what the server asks for, if it has keys.
            timeout: seconds of silence after which a request is given up; None: for ever.
        """
        self.url = url
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
        return RemoteStream(self._http, self.url, body)

    def _post(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        with answering(self.url):
            response = self._http.post(PROGRAMS, json={**body, **self._options})
        return answer_of(response)

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

    def __init__(self, http: httpx2.Client, url: str, body: Mapping[str, Any]) -> None:
        self._url = url
        self._events = Events()
        self._result: RemoteFinished | None = None
        self._open = ExitStack()
        with answering(url):
            sent = http.stream("POST", PROGRAMS, json={**body, "stream": True})
            response = self._open.enter_context(sent)
            if response.is_error:
                response.read()
                self._open.close()
                answer_of(response)
        self._lines = response.iter_lines()

    def __next__(self) -> Event:
        with answering(self._url):
            for line in self._lines:
                item = self._read(line)
                if item is not None:
                    return item
        self.close()
        if self._result is None:
            raise RemoteError("the stream ended before the run did")
        raise StopIteration

    def _read(self, line: str) -> Event | None:
        try:
            item = self._events.read(line)
        except Exception:
            self.close()
            raise
        if isinstance(item, RemoteFinished):
            self._result = item
            return None
        return item

    def result(self) -> RemoteFinished:
        """Run on to the end; events that nobody took are dropped."""
        for _ in self:
            pass
        assert self._result is not None, "a stream without a result raises"
        return self._result

    def close(self) -> None:
        """Cancel the run, if it is not over."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

"""The events of one program, numbered, for whoever follows now or comes back later."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ramet.runtime.server.errors import Refused
from ramet.runtime.server.sse import event


class EventLog:
    """Events as bytes, the first one with the id 1. For one event loop.

    The oldest are dropped once all together are larger than `most` bytes; none any more for those
    that end the log, however large they are: whoever follows gets the end.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._events: deque[bytes] = deque()
        self._news: set[asyncio.Future[None]] = set()
        self.size = 0  # bytes of those that are there
        self.dropped = 0  # events that are not there any more
        self.last = 0  # the id of the newest event
        self.closed = False

    def append(self, name: str, data: Mapping[str, Any] | str, *, ending: bool = False) -> None:
        """The next event; its data as a mapping, or as JSON. After one that is `ending` all are."""
        self.last += 1
        each = event(data, name=name, id=self.last)
        self._events.append(each)
        self.size += len(each)
        while not ending and self.size > self._most and len(self._events) > 1:
            self.size -= len(self._events.popleft())
            self.dropped += 1
        self._tell()

    def close(self) -> None:
        """There will be no more."""
        self.closed = True
        self._tell()

    def check(self, after: int) -> None:
        """Raise `Refused` unless all events that follow this id are there, or still to come."""
        if after > self.last:
            raise Refused(
                400, f"there is no event {after} yet", code="no_such_event", param="Last-Event-ID"
            )
        if after < self.dropped:
            raise Refused(
                410,
                f"the events up to {self.dropped} are dropped; the result is still there",
                code="events_dropped",
                param="Last-Event-ID",
            )

    async def follow(self, after: int = 0) -> AsyncGenerator[bytes, None]:
        """The events that follow this id, several at once where they are there, up to the end.

        Raises:
            Refused: some of them are dropped, by now or since whoever follows is too slow.
        """
        loop = asyncio.get_running_loop()
        while True:
            self.check(after)
            if after < self.last:
                found = [self._events[at] for at in range(after - self.last, 0)]
                after = self.last
                yield found[0] if len(found) == 1 else b"".join(found)
            elif self.closed:
                return
            else:
                news: asyncio.Future[None] = loop.create_future()
                self._news.add(news)
                try:
                    await news
                finally:
                    self._news.discard(news)

    def _tell(self) -> None:
        for news in self._news:
            if not news.done():
                news.set_result(None)

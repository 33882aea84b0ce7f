"""Writes down what one run tells, in its order; what may be large is encoded beside the loop.

Knows no engine and no reader.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ramet.runtime.events import Event
from ramet.runtime.server.event_log import EventLog
from ramet.runtime.server.wire import encoded, is_small


class Telling:
    """The events of one run, on their way into a log. For one event loop."""

    def __init__(self, log: EventLog, item: Mapping[str, int]) -> None:
        self._log = log
        self._item = item
        self._waiting: deque[Event] = deque()  # for those before them to be encoded
        self._writing: asyncio.Task[None] | None = None

    def tell(self, event: Event) -> None:
        """It is in the log at once, unless it, or one before it, may be large."""
        if self._writing is None and is_small(event):
            self._log.append(*encoded(event, self._item))
            return
        self._waiting.append(event)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def __aenter__(self) -> Self:
        """All of them are in the log afterwards; those that are not yet never, if cancelled."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writing is None:
            return
        if error is not None and not isinstance(error, Exception):
            self._writing.cancel()
        else:
            await self._writing

    async def _write(self) -> None:
        while self._waiting:
            event = self._waiting.popleft()
            if is_small(event):
                self._log.append(*encoded(event, self._item))
            else:
                made = await asyncio.to_thread(encoded, event, self._item, beside=True)
                self._log.append(*made)
        self._writing = None

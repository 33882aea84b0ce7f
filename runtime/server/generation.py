"""Prompts of tokens on an engine, each with its samples, told to the event loop as they grow.

Below programs: it drives sequences and tasks, so that every token and its log-probability is known.
Knows no HTTP and no dialect.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial

from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import EngineClosed
from ramet.runtime.server.asks import Ask, Item, Spent
from ramet.runtime.server.drawing import Drawing
from ramet.runtime.server.searching import Searching

Queue = asyncio.Queue[Item | Exception]
Work = Drawing | Searching


class Generator:
    """Takes asks to an engine, from one event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waited: set[Queue] = set()  # the loop's
        self._under_way: set[Work] = set()  # the engine's thread's
        self._mail: deque[tuple[Queue, Item | Exception]] = deque()
        self._rung = False
        engine.admit(self)

    async def items(self, ask: Ask) -> AsyncGenerator[Item]:
        """What becomes of it, item by item; closing it early cancels it.

        Raises what ended it: `ParameterError`, or an `EngineError`.
        """
        self._loop = asyncio.get_running_loop()
        queue: Queue = asyncio.Queue()
        work = _work(ask, partial(self._tell, queue), self._under_way.discard)
        self._engine.post(partial(self._begin, work))
        self._waited.add(queue)
        over = False
        try:
            while not over:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                over = isinstance(item, Spent)
                yield item
        finally:
            self._waited.discard(queue)
            if not over:
                with suppress(EngineClosed):
                    self._engine.post(lambda core: work.close())

    def give_up(self, error: Exception) -> None:
        """Whoever waits gets that error, at once, also while a step does not end."""
        for queue in self._waited:
            queue.put_nowait(error)

    # -- on the engine's thread

    def fail(self, error: Exception) -> None:
        for work in list(self._under_way):
            work.fail(error)

    def _begin(self, work: "Work", core: EngineCore) -> None:
        self._under_way.add(work)
        try:
            work.begin(core)
        except Exception as error:
            work.fail(error)

    def _tell(self, queue: Queue, item: Item | Exception) -> None:
        """Many items of a step wake the loop once."""
        assert self._loop is not None, "an ask came from it"
        self._mail.append((queue, item))
        if not self._rung:
            self._rung = True
            with suppress(RuntimeError):  # the loop is gone: nobody is there to be told
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._rung = False
        while self._mail:
            queue, item = self._mail.popleft()
            queue.put_nowait(item)


def _work(
    ask: Ask, tell: Callable[[Item | Exception], None], ended: Callable[[Work], None]
) -> Work:
    return (Searching if ask.params.beams > 1 else Drawing)(ask, tell, ended)

"""Whether steps finish. The engine is asked once a second, between its steps; one that does not
answer for as long as a step may take, or whose last step failed, is not healthy.
"""

import asyncio
import logging

from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import EngineClosed
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.runs import Runs

log = logging.getLogger("ramet.server")


class Health:
    """Watches one engine, from the event loop of the server."""

    def __init__(self, engine: AsyncEngine, runs: Runs, config: ServerConfig) -> None:
        self._engine = engine
        self._runs = runs
        self._limit = config.step_s
        self._answered = 0.0  # when, by the loop's clock
        self._failed_at: float | None = None  # the last step, if it failed
        self._known = (0, 0)  # steps, and those that failed since one did not
        self.trouble: str | None = None  # what is wrong, for a client

    async def watch(self) -> None:
        """For as long as the server runs."""
        loop = asyncio.get_running_loop()
        self._answered = loop.time()
        asked = False

        def answer(steps: int, failing: int) -> None:
            nonlocal asked
            asked = False
            self._answered = loop.time()
            if not failing:
                self._failed_at = None
            elif (steps, failing) != self._known:
                self._failed_at = loop.time()
            self._known = steps, failing

        def ask(core: EngineCore) -> None:
            loop.call_soon_threadsafe(answer, core.stats().steps, core.failing)

        while True:
            try:
                if not asked:
                    asked = True
                    self._engine.post(ask)
                self._judge(loop.time())
            except EngineClosed:
                self._tell("the engine has ended")
            await asyncio.sleep(min(1.0, self._limit / 4))

    def _judge(self, now: float) -> None:
        if not self._engine.alive:
            self._tell("the engine has ended")
        elif now - self._answered > self._limit:
            self._tell(f"a step takes longer than {self._limit:g} seconds")
        elif self._failed_at is not None and now - self._failed_at <= self._limit:
            self.trouble = "the last step failed"
        elif self.trouble is not None:
            self.trouble = None
            log.warning("the engine is well again")

    def _tell(self, trouble: str) -> None:
        """Nobody waits for an engine that does not go on."""
        if self.trouble != trouble:
            log.error("%s", trouble)
        self.trouble = trouble
        self._runs.end_all(Refused(503, trouble, code="engine_stalled", retry=self._limit))

"""The one way in which a route runs anything: with a turn, in its tenant's scope, within limits,
and told when the engine stalls.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from math import inf
from typing import Any, Unpack

from ramet.runtime.async_engine import AsyncEngine, Start
from ramet.runtime.engine import AnyProgram
from ramet.runtime.events import Event
from ramet.runtime.result import Finished
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.generation import Ask, Generator, Item
from ramet.runtime.server.guard import check_params, check_type, guard_of, hold
from ramet.runtime.server.turns import Reservation, Turns


class Runs:
    """Runs programs for tenants."""

    def __init__(self, engine: AsyncEngine, config: ServerConfig) -> None:
        context = engine.engine.core.context
        self.turns = Turns(config, context)
        self._engine = engine
        self._config = config
        self._guard = guard_of(config, context)
        self._generator = Generator(engine)

    async def run(
        self,
        tenant: Tenant,
        program: AnyProgram,
        arguments: Mapping[str, Any],
        on_event: Callable[[Event], None] | None = None,
        *,
        reservation: Reservation | None = None,
        **start: Unpack[Start],
    ) -> Finished:
        """The result of a run, once it had its turn; `on_event` is told of what happens.

        Cancelling whoever waits for it cancels the run. Whoever made the `reservation` releases it.

        Raises:
            Refused: the server is full, or stopping, or the engine stalls.
            RametError: what ended the run.
        """
        start = {"limits": self._config.program, **start}
        async with self.turns.turn(tenant, reservation):
            return await self._engine.follow(
                program,
                arguments,
                on_event,
                **{**start, "scope": tenant.scope, "guard": self._guard},
            )

    def check(self, ask: Ask) -> None:
        """Raise `Refused` for an ask over a limit; before anything is made for its samples."""
        hold("n" if ask.best is None else "best_of", ask.samples, self._config.n)
        check_params(self._config, ask.params)
        check_type(self._config, ask.type)
        texts = max(ask.samples, ask.params.beams)
        if texts * ask.params.max_tokens > self._config.program.tokens:
            raise Refused(
                400,
                f"max_tokens: {texts:,} times {ask.params.max_tokens:,} tokens are more than the "
                f"{self._config.program.tokens:,} that a run may generate here",
                code="limit_exceeded",
                param="max_tokens",
                limit="tokens",
                most=self._config.program.tokens,
            )

    async def texts(
        self, tenant: Tenant, ask: Ask, reservation: Reservation | None = None
    ) -> AsyncGenerator[Item, None]:
        """The items of an ask, in the tenant's scope; otherwise as `run`.

        Raises `LimitError` once it takes longer than a run may; its wait for a turn does not count.
        """
        self.check(ask)
        async with self.turns.turn(tenant, reservation):
            ends = asyncio.get_running_loop().time() + self._config.program.seconds
            items = self._generator.items(replace(ask, scope=tenant.scope))
            async with aclosing(items):
                while True:
                    try:
                        async with asyncio.timeout_at(ends):
                            each = await anext(items)
                    except StopAsyncIteration:
                        return
                    except TimeoutError:
                        self._config.program.hold("seconds", inf)
                        raise
                    yield each

    def end_all(self, error: Refused) -> None:
        """End whatever runs, and whatever waits for its turn, with that error."""
        self.turns.end_all(error)
        self._engine.give_up(error)
        self._generator.give_up(error)

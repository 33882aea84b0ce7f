"""Prefixes that a tenant asked to keep for a time. Knows tokens and seconds; holds no block.

A pin is an expected use that comes before all others: its blocks are evicted last, whenever they
are computed. So it takes nothing from anybody who has to have room, and needs no audit.
"""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass

from ramet.cache import Expectation
from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import EngineClosed
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused

FIRST = -1  # before any use that the scheduler expects


@dataclass(frozen=True, slots=True)
class Pin:
    """One prefix; `until` is by the event loop's clock."""

    id: str
    tenant: str
    tokens: int
    blocks: int  # full ones: less than a block at the end is not kept
    until: float
    expected: list[Expectation]  # one, as soon as the engine has it
    timer: asyncio.TimerHandle


class Pins:
    """All pins of a server, of one event loop."""

    def __init__(self, engine: AsyncEngine, config: ServerConfig) -> None:
        self._engine = engine
        self._config = config
        self._pins: dict[str, Pin] = {}

    async def pin(self, tenant: Tenant, tokens: list[int], seconds: float) -> Pin:
        """Keep this prefix in the tenant's part of the cache.

        Raises `Refused` for less than a block, and for what is over the tenant's quota.
        """
        loop, core = asyncio.get_running_loop(), self._engine.engine.core
        size = core.pool.block_size
        blocks = len(tokens) // size
        if not blocks:
            message = f"{len(tokens)} tokens are less than a block, which has {size}: none is kept"
            raise Refused(400, message, code="pin_too_short")
        quota = int(core.pool.num_blocks * self._config.pinned_share)
        if blocks > quota:
            message = f"{blocks} blocks are over the {quota} that a tenant may pin"
            raise Refused(400, message, code="pin_quota_exceeded")
        others = self.of(tenant)
        used = sum(pin.blocks for pin in others)
        if used + blocks > quota:
            raise Refused(
                429,
                f"{blocks} blocks more would be pinned, over the {quota} that a tenant may pin, "
                f"{used} of which are; unpin others first",
                code="pin_quota_exceeded",
                retry=min(pin.until for pin in others) - loop.time(),
            )
        id, until = f"pin_{secrets.token_hex(12)}", loop.time() + seconds
        timer = loop.call_at(until, self._drop, id)
        pin = Pin(id, tenant.name, len(tokens), blocks, until, [], timer)
        self._pins[id] = pin  # counts from here on, whoever else asks meanwhile
        try:
            await self._engine.ask(
                lambda core: pin.expected.append(core.pool.expect(tokens, FIRST, tenant.scope))
            )
        except BaseException:
            self._drop(id)
            raise
        return pin

    def of(self, tenant: Tenant) -> list[Pin]:
        """A tenant's pins, the oldest first."""
        return [pin for pin in self._pins.values() if pin.tenant == tenant.name]

    def unpin(self, tenant: Tenant, id: str) -> bool:
        """End a pin of the tenant's; False if there is none of that name."""
        pin = self._pins.get(id)
        if pin is None or pin.tenant != tenant.name:
            return False
        self._drop(id)
        return True

    def _drop(self, id: str) -> None:
        pin = self._pins.pop(id, None)
        if pin is not None:
            pin.timer.cancel()

            def drop(core: EngineCore) -> None:
                for each in pin.expected:
                    each.drop()

            with suppress(EngineClosed):
                self._engine.post(drop)

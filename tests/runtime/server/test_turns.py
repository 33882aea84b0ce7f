"""Who runs next, and who is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.turns import Turns

KEYS = {"a-key": "a", "b-key": "b"}
A, B = Tenant("a", b"a"), Tenant("b", b"b")


def with_turns(body: Callable[[Turns], Awaitable[None]], **config: Any) -> None:
    async def main() -> None:
        turns = Turns(ServerConfig(**config))
        await body(turns)
        await turns.idle()
        assert (turns.running, turns.waiting) == (0, 0)

    asyncio.run(main())


async def take(turns: Turns, tenant: Tenant, order: list[str], until: asyncio.Event) -> None:
    async with turns.turn(tenant):
        order.append(tenant.name)
        await until.wait()


def test_tenants_take_turns() -> None:
    async def body(turns: Turns) -> None:
        order: list[str] = []
        gates = [asyncio.Event() for _ in range(6)]
        tenants = [A, A, A, A, B, B]
        tasks = []
        for tenant, gate in zip(tenants, gates, strict=True):
            tasks.append(asyncio.create_task(take(turns, tenant, order, gate)))
            await asyncio.sleep(0)
        assert (order, turns.running, turns.waiting) == (["a"], 1, 5)
        for gate in gates:
            gate.set()
        await asyncio.gather(*tasks)
        assert order == ["a", "a", "b", "a", "b", "a"]

    with_turns(body, running=1)


def test_a_tenant_takes_half_while_others_wait_and_never_all() -> None:
    async def body(turns: Turns) -> None:
        order: list[str] = []
        first, gate = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(take(turns, A, order, first)) for _ in range(20)]
        await asyncio.sleep(0)
        assert (order.count("a"), turns.waiting) == (14, 6)  # all but an eighth
        tasks += [asyncio.create_task(take(turns, A, order, gate)) for _ in range(20)]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(take(turns, B, order, gate)) for _ in range(12)]
        await asyncio.sleep(0)
        assert order.count("b") == 2  # at once
        first.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (order.count("b"), turns._under_way) == (8, {"a": 8, "b": 8})
        gate.set()
        await asyncio.gather(*tasks)
        assert not turns._under_way

    with_turns(body, running=16, keys=KEYS)


def test_a_single_tenant_takes_all() -> None:
    async def body(turns: Turns) -> None:
        gate = asyncio.Event()
        tasks = [asyncio.create_task(take(turns, A, [], gate)) for _ in range(9)]
        await asyncio.sleep(0)
        assert (turns.running, turns.waiting) == (8, 1)
        gate.set()
        await asyncio.gather(*tasks)

    with_turns(body, running=8)


def test_the_queue_is_bounded() -> None:
    async def body(turns: Turns) -> None:
        gate = asyncio.Event()
        tasks = [asyncio.create_task(take(turns, A, [], gate)) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as caught:
            turns.check(B)
        assert (caught.value.status, caught.value.code) == (503, "queue_full")
        assert caught.value.retry
        gate.set()
        await asyncio.gather(*tasks)
        turns.check(B, 5)
        with pytest.raises(Refused):
            turns.check(B, 6)

    with_turns(body, running=2, queue=3)


def test_a_tenant_has_so_many_and_no_more() -> None:
    async def body(turns: Turns) -> None:
        gate = asyncio.Event()
        tasks = [asyncio.create_task(take(turns, A, [], gate)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as caught:
            async with turns.turn(A):
                pass
        assert (caught.value.status, caught.value.code) == (429, "too_many_runs")
        turns.check(B)
        gate.set()
        await asyncio.gather(*tasks)

    with_turns(body, tenant=2)


def test_nobody_waits_for_ever() -> None:
    async def body(turns: Turns) -> None:
        gate = asyncio.Event()
        holder = asyncio.create_task(take(turns, A, [], gate))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as caught:
            async with turns.turn(B):
                pass
        assert (caught.value.status, caught.value.code) == (503, "queue_timeout")
        gate.set()
        await holder

    with_turns(body, running=1, wait_s=0.02)


def test_who_stops_waiting_takes_no_turn() -> None:
    async def body(turns: Turns) -> None:
        gate = asyncio.Event()
        holder = asyncio.create_task(take(turns, A, [], gate))
        waiting = [asyncio.create_task(take(turns, B, [], gate)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        gate.set()
        waiting[1].cancel()  # in the same moment in which a turn may come
        await asyncio.gather(holder, *waiting, return_exceptions=True)
        assert not waiting[2].cancelled()

    with_turns(body, running=1)


def test_end_all_reaches_those_who_wait() -> None:
    async def body(turns: Turns) -> None:
        gate = asyncio.Event()
        holder = asyncio.create_task(take(turns, A, [], gate))
        waiting = asyncio.create_task(take(turns, B, [], gate))
        await asyncio.sleep(0)
        turns.end_all(Refused(503, "enough"))
        with pytest.raises(Refused, match="enough"):
            await waiting
        gate.set()
        await holder

    with_turns(body, running=1)


def test_what_is_reserved_counts_and_is_taken_even_while_draining() -> None:
    async def body(turns: Turns) -> None:
        turns.reserve(A, 3)
        with pytest.raises(Refused):
            turns.check(A)
        turns.closed = True
        async with turns.turn(A, reserved=True):
            assert turns.running == 1
        turns.release(A, 3)
        turns.closed = False
        turns.check(A, 3)

    with_turns(body, tenant=3)

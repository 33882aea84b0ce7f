"""Who runs next, and who is refused."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.turns import Reservation, Turns

KEYS = {"a-key": "a", "b-key": "b"}
A, B, C = (Tenant(name, name.encode()) for name in "abc")


def with_turns(body: Callable[[Turns], Awaitable[None]], **config: Any) -> None:
    async def main() -> None:
        turns = Turns(ServerConfig(**config), context=100)
        await body(turns)
        await turns.idle()
        assert (turns.running, turns.waiting, turns.text) == (0, 0, 0)
        assert not turns._under_way
        assert not turns._of

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


def test_those_whose_turn_comes_begin_before_those_that_are_over_are_answered() -> None:
    async def body(turns: Turns) -> None:
        told: list[str] = []
        first, last = asyncio.Event(), asyncio.Event()

        async def run(name: str, until: asyncio.Event) -> None:
            async with turns.turn(A):
                told.append(f"{name} begins")
                await until.wait()
            told.append(f"{name} is answered")

        runs = [("a", first), ("b", first), ("c", last), ("d", last)]
        tasks = [asyncio.create_task(run(*each)) for each in runs]
        await asyncio.sleep(0)
        first.set()
        await asyncio.gather(*tasks[:2])
        assert told == [
            *("a begins", "b begins", "c begins", "d begins"),
            *("a is answered", "b is answered"),
        ]
        last.set()
        await asyncio.gather(*tasks)

    with_turns(body, running=2)


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
        turns.check(B, [0] * 5)
        with pytest.raises(Refused):
            turns.check(B, [0] * 6)

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
        reservation = turns.reserve(A, [0] * 3)
        with pytest.raises(Refused):
            turns.check(A)
        turns.closed = True
        async with turns.turn(A, reservation):
            assert turns.running == 1
        turns.release(reservation)
        turns.closed = False
        turns.check(A, [0] * 3)

    with_turns(body, tenant=3)


# -- the texts of runs that wait


def refused(turns: Turns, tenant: Tenant, texts: list[int]) -> Refused | None:
    """What `check` says to these; nothing but a full queue is expected."""
    try:
        turns.check(tenant, texts)
    except Refused as found:
        error = found
    else:
        return None
    assert (error.status, error.code) == (503, "queue_full")
    assert error.retry
    return error


@asynccontextmanager
async def busy(turns: Turns, tenant: Tenant = A, places: int = 1) -> AsyncGenerator[None, None]:
    """Inside, so many turns are taken."""
    gate, order = asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(take(turns, tenant, order, gate)) for _ in range(places)]
    await asyncio.sleep(0)
    assert len(order) == places
    yield
    gate.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(("most", "config"), [(50, {"queue_tokens": 50}), (400, {})])
def test_so_many_tokens_wait_and_no_more(most: int, config: dict[str, int]) -> None:
    """Four contexts of 100, where no number is given."""

    async def body(turns: Turns) -> None:
        async with busy(turns):
            assert turns.text == 0, "what has its turn does not wait"
            waiting = turns.reserve(A, [20])
            assert turns.text == 20
            assert refused(turns, B, [most - 21]) is None
            assert refused(turns, A, [most - 21]) is None
            assert refused(turns, A, [most - 20]) is None
            error = refused(turns, A, [most - 19])
            assert error is not None
            assert f"20 tokens wait, of {most} that can" in str(error)
            assert refused(turns, A, [most - 30, 11]) is not None, "all of a call, or none"
            more = turns.reserve(A, [most - 20])
            assert refused(turns, A, [1]) is not None
            turns.release(more)
            assert refused(turns, A, [most - 20]) is None
            turns.release(waiting)

    with_turns(body, running=1, **config)


def test_what_need_not_wait_has_no_bound() -> None:
    """Four turns: three of a call's runs get theirs at once, and one waits with its text."""

    async def body(turns: Turns) -> None:
        async with busy(turns):
            call = turns.reserve(A, [1_000, 1_000, 1_000, 7])
            assert turns.text == 7
            assert refused(turns, A, [44]) is not None, "now there is no free turn left"
            assert refused(turns, A, [43]) is None
            gate, order = asyncio.Event(), list[str]()
            tasks = []
            for _ in range(4):
                tasks.append(asyncio.create_task(taken(turns, call, order, gate)))
                await asyncio.sleep(0)
            assert (len(order), turns.text) == (3, 7)
            gate.set()
            await asyncio.gather(*tasks)
            assert (len(order), turns.text) == (4, 0)
            turns.release(call)
        assert refused(turns, A, [10_000] * 4) is None

    with_turns(body, running=4, queue_tokens=50)


async def taken(
    turns: Turns, reservation: Reservation, order: list[str], until: asyncio.Event
) -> None:
    async with turns.turn(A, reservation):
        order.append("run")
        await until.wait()


def test_what_is_larger_than_the_bound_waits_alone() -> None:
    async def body(turns: Turns) -> None:
        async with busy(turns):
            large = turns.reserve(A, [600, 300])
            assert turns.text == 900
            assert refused(turns, A, [1]) is not None
            assert refused(turns, A, [0]) is None
            turns.release(large)
            small = turns.reserve(A, [1])
            assert refused(turns, A, [600]) is not None
            turns.release(small)

    with_turns(body, running=1, queue_tokens=50)


def test_a_tenant_has_half_of_the_text_that_waits_and_keeps_nobody_out() -> None:
    async def body(turns: Turns) -> None:
        async with busy(turns, B), busy(turns, C):
            first = turns.reserve(A, [20])
            assert refused(turns, A, [5]) is None
            error = refused(turns, A, [6])
            assert error is not None
            assert "20 of your tokens wait, of 25 that can" in str(error)
            large = turns.reserve(C, [70])
            assert refused(turns, A, [1]) is not None, "all that can wait does"
            assert refused(turns, B, [30]) is None, "nothing of theirs waits"
            for each in (first, large):
                turns.release(each)

    with_turns(body, running=2, queue_tokens=50, keys={**KEYS, "c-key": "c"})


def test_a_turn_that_is_kept_for_others_is_no_free_one() -> None:
    """Of eight turns seven are for one tenant: its eighth run waits, and counts."""

    async def body(turns: Turns) -> None:
        async with busy(turns, A, 7):
            assert turns.running == 7
            waiting = turns.reserve(A, [40])
            assert turns.text == 40
            at_once = turns.reserve(B, [1_000])
            assert turns.text == 40
            turns.release(at_once)
            turns.release(waiting)

    with_turns(body, running=8, queue_tokens=50, keys=KEYS)


@pytest.mark.parametrize("ends", ["cancel", "timeout"])
def test_text_of_who_stops_waiting_counts_no_more(ends: str) -> None:
    async def body(turns: Turns) -> None:
        async with busy(turns):
            call = turns.reserve(A, [30, 4])
            waiting = asyncio.create_task(taken(turns, call, [], asyncio.Event()))
            await asyncio.sleep(0)
            assert (turns.waiting, turns.text) == (1, 34)
            if ends == "cancel":
                waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert (turns.waiting, turns.text) == (0, 4)
            turns.release(call)
            assert turns.text == 0

    with_turns(body, running=1, queue_tokens=50, wait_s=0.02)


# -- when to try again


def test_who_is_refused_is_told_how_long_turns_take() -> None:
    async def body(turns: Turns) -> None:
        turns._mean = 6.0
        async with busy(turns, A, 2):
            waiting = [asyncio.create_task(take(turns, A, [], GONE)) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(Refused) as queued:
                turns.check(B)
            assert queued.value.retry == 9.0, "three wait for two turns of six seconds"
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            with pytest.raises(Refused) as full:
                turns.check(A, [0] * 6)
            assert full.value.retry == 3.0, "one of its own ends"
            turns._mean = 1e9
            with pytest.raises(Refused) as full:
                turns.check(A, [0] * 6)
            assert full.value.retry == 20.0, "no later than who waits would be told"

    GONE = asyncio.Event()
    with_turns(body, running=2, queue=3, tenant=7, wait_s=20.0)


def test_the_length_of_turns_is_learnt() -> None:
    async def body(turns: Turns) -> None:
        for _ in range(40):
            async with turns.turn(A):
                await asyncio.sleep(0.002)
        assert 0.0018 < turns._mean < 0.05

    with_turns(body)


def test_who_would_wait_for_too_long_is_refused_at_once() -> None:
    """For half of the time, by turns of late; another tenant's would come before most of those."""

    async def body(turns: Turns) -> None:
        async def one() -> None:
            async with turns.turn(A):
                pass

        async with turns.turn(A):
            waiting = [asyncio.create_task(one()) for _ in range(3)]
            await asyncio.sleep(0.01)
            turns._mean = 0.1
            with pytest.raises(Refused, match="3 wait, and no turn might come in time") as error:
                turns.check(A)
            assert (error.value.status, error.value.code) == (503, "queue_full")
            turns.check(B)
            turns._mean = 0.06
            turns.check(A)
        await asyncio.gather(*waiting)

    with_turns(body, running=1, queue=8, wait_s=0.5, keys=KEYS)

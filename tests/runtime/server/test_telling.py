"""The events of a run are in the log in their order, whichever are encoded beside the loop."""

import asyncio
import threading
from typing import Any

import pytest

from ramet.runtime.events import Event, TextDelta, ValueBound
from ramet.runtime.server import telling, wire
from ramet.runtime.server.event_log import EventLog
from ramet.runtime.server.telling import Telling

LARGE = ValueBound(2, "a", "", "x" * (wire.SMALL + 1))
TEXT = TextDelta(1, "a", "", "hello", 0, (7, 8))


class Gate:
    """What is encoded beside the loop waits for it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        encoded = telling.encoded

        def late(event: Event, item: Any, *, beside: bool = False) -> tuple[str, str]:
            if beside:
                assert self.open.wait(5)
            return encoded(event, item, beside=beside)

        patch.setattr(telling, "encoded", late)


def names(log: EventLog) -> list[str]:
    return [each.split(b"event: ")[1].split(b"\n")[0].decode() for each in log._events]


def test_those_behind_a_large_one_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, log = Gate(monkeypatch), EventLog(1 << 20)

    async def main() -> None:
        async with Telling(log, {"item": 3}) as run:
            run.tell(TEXT)
            assert names(log) == ["text"], "at once"
            for event in (LARGE, TEXT, LARGE, TEXT):
                run.tell(event)
            await asyncio.sleep(0.01)
            assert names(log) == ["text"]
            gate.open.set()
        assert names(log) == ["text", "value", "text", "value", "text"]
        async with Telling(log, {}) as run:
            run.tell(TEXT)
        assert names(log)[5:] == ["text"]

    asyncio.run(main())
    assert b'"item":3' in log._events[0]
    assert b'"tokens":[7,8]' in log._events[0]


def test_an_error_comes_behind_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, log = Gate(monkeypatch), EventLog(1 << 20)

    async def main() -> None:
        async with Telling(log, {}) as run:
            run.tell(LARGE)
            gate.open.set()
            raise ValueError("of the run")

    with pytest.raises(ValueError, match="of the run"):
        asyncio.run(main())
    assert names(log) == ["value"]


def test_who_is_cancelled_waits_for_nothing_and_tells_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, log = Gate(monkeypatch), EventLog(1 << 20)

    async def tell(ends: bool) -> None:
        async with Telling(log, {}) as run:
            run.tell(LARGE)
            await asyncio.sleep(0 if ends else 5)

    async def main() -> None:
        for ends in (False, True):  # while it runs, and while it waits for what it told
            task = asyncio.create_task(tell(ends))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait({task}, timeout=1)
            assert task.cancelled()
        gate.open.set()
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert names(log) == []

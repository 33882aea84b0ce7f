"""A stream that nobody reads ends, also while it has nothing to say."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from ramet.runtime.server import sse
from ramet.runtime.server.sse import EventStream


async def nothing() -> Any:
    await asyncio.Event().wait()


def test_who_does_not_take_the_beats_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "BEAT_S", 0.01)
    told: list[Any] = []
    closed: list[str] = []

    async def silent() -> AsyncGenerator[bytes, None]:
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            closed.append("events")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def on_close() -> None:
        closed.append("all")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
        stream = EventStream(silent(), stall_s=0.02, on_close=on_close)
        async with asyncio.timeout(2):
            await stream({}, nothing, send)
        gc.collect()

    asyncio.run(main())
    assert (closed, told) == (["events", "all"], [])


def test_silence_has_beats_between_its_head_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "BEAT_S", 0.01)
    sent: list[Any] = []

    async def slow() -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(0.05)
        yield b"data: x\n\n"

    async def send(message: Any) -> None:
        await asyncio.sleep(0.03)  # before the head is out there is no beat
        sent.append(message.get("body"))

    async def main() -> None:
        await EventStream(slow(), stall_s=1)({}, nothing, send)

    asyncio.run(main())
    assert sent[:2] == [None, b": waiting\n\n"]
    assert b"data: x\n\n" in sent
    assert sent[-1] == b""


def test_who_is_slow_but_reads_gets_all_and_no_beat_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse, "BEAT_S", 0.01)
    large = b"data: " + b"x" * (5 * sse.SLICE) + b"\n\n"
    sent: list[bytes] = []

    async def events() -> AsyncGenerator[bytes, None]:
        yield large

    async def send(message: Any) -> None:
        await asyncio.sleep(0.05)
        sent.append(message.get("body", b""))

    async def main() -> None:
        await EventStream(events(), stall_s=0.2)({}, nothing, send)

    asyncio.run(main())
    assert b"".join(sent).replace(b": waiting\n\n", b"") == large
    assert large in b"".join(sent)
    assert max(map(len, sent)) == sse.SLICE


@pytest.mark.parametrize("beat", [0.01, 10.0])
def test_who_does_not_take_an_event_is_left(monkeypatch: pytest.MonkeyPatch, beat: float) -> None:
    """After so many seconds of one write, however long the stream goes on already."""
    monkeypatch.setattr(sse, "BEAT_S", beat)
    took: list[float] = []

    async def events() -> AsyncGenerator[bytes, None]:
        for _ in range(4):
            await asyncio.sleep(0.02)
            yield b"data: x\n\n"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began: list[float] = []

        async def send(message: Any) -> None:
            if (message.get("body") or b"").startswith(b"data"):
                began.append(loop.time())
                if len(began) == 3:
                    await asyncio.Event().wait()

        async with asyncio.timeout(2):
            await EventStream(events(), stall_s=0.05)({}, nothing, send)
        took.append(loop.time() - began[-1])
        assert len(began) == 3

    asyncio.run(main())
    assert 0.049 < took[0] < 0.5

"""What threads tell an event loop comes in order, with few wake-ups, and does not hold it up."""

import asyncio
import threading

import pytest

from ramet.runtime import mail
from ramet.runtime.mail import Mail


class Loud(asyncio.SelectorEventLoop):
    """Counts how often it is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = 0

    def call_soon_threadsafe(self, *args: object, **more: object) -> asyncio.Handle:
        self.rung += 1
        return super().call_soon_threadsafe(*args, **more)  # type: ignore[arg-type]


def test_what_is_told_together_wakes_the_loop_once() -> None:
    loop, found = Loud(), list[int]()
    post = Mail(loop).post
    teller = threading.Thread(target=lambda: [post(found.append, at) for at in range(100)])

    async def main() -> None:
        teller.start()
        teller.join()
        assert (found, loop.rung) == ([], 1)
        await asyncio.sleep(0.01)
        assert found == [*range(100)]
        post(found.append, 100)
        await asyncio.sleep(0.01)
        assert (found[-1], loop.rung) == (100, 2)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())


def test_a_flood_leaves_the_loop_time_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "AT_ONCE", 10)
    found: list[int] = []
    between: list[int] = []

    async def main() -> None:
        told = Mail(asyncio.get_running_loop())
        for at in range(95):
            told.post(found.append, at)
        while len(found) < 95:
            await asyncio.sleep(0)
            between.append(len(found))

    asyncio.run(main())
    assert found == [*range(95)]
    assert {10, 50, 90} <= {*between}


def test_what_is_told_while_it_is_delivered_comes_too() -> None:
    found: list[str] = []

    async def main() -> None:
        told = Mail(asyncio.get_running_loop())

        def again(name: str) -> None:
            found.append(name)
            if len(found) < 5:
                told.post(again, f"{name}'")

        told.post(again, "a")
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert found == ["a", "a'", "a''", "a'''", "a''''"]


def test_a_loop_that_is_gone_is_told_nothing() -> None:
    loop = asyncio.new_event_loop()
    told = Mail(loop)
    loop.close()
    told.post(print, "anything")
    told.post(print, "anything")

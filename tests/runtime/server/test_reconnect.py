"""Connections that break: a client comes back, every event comes once, every run runs once; and who
leaves on purpose cancels at once.
"""

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest

import ramet
from ramet.client import RemoteError, RemoteFinished, following as following_module
from ramet.client.following import Following
from ramet.client.tries import Tries
from ramet.events import BranchOpened
from ramet.runtime.server.jobs import Job
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.cutting import Cut, Proxy, cutting
from tests.runtime.server.serving import Served, listening

SOURCE = """\
program story(topic: str, n: int = 2):
    "On {topic}: "
    fork i in range(n) as parts:
        gen part(max_tokens=12, ignore_eos=true)
    select mood from [" good", " bad"]
    gen end(max_tokens=20, ignore_eos=true)
    return {end, mood, parts: parts.part}
"""
LONG = 'program long():\n    "x"\n    gen a(max_tokens=4000, ignore_eos=true)\n'


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramet.client.tries.BACKOFF_S", 0.001)


def over(
    tokenizer: Tokenizer,
    body: Callable[[Served, Proxy], Awaitable[None]],
    cuts: Iterator[Cut],
    **config: Any,
) -> None:
    async def main() -> None:
        async with listening(tokenizer, **config) as (served, _):
            async with cutting(str(served.client.base_url), cuts) as proxy:
                await body(served, proxy)
            assert await served.all_back()

    asyncio.run(main())


def random_cuts(seed: int, most: int) -> Iterator[Cut]:
    """Of asks, of heads of answers, and within so many bytes of answers."""
    draw = random.Random(seed)
    while True:
        reset = draw.random() < 0.5
        if draw.random() < 0.2:
            yield Cut("ask", draw.randrange(1, 600), reset)
        else:
            yield Cut("answer", draw.randrange(1, most), reset)


def jobs_of(served: Served) -> list[Job]:
    return [*served.app.state.server.jobs._jobs.values()]


def told_by(job: Job) -> list[str]:
    """All events of a run, as a client has them that was never cut off."""
    whole = Following({}, returns=True)
    lines = b"".join(job.log._events).decode().split("\n")
    items = [whole.read(line) for line in lines]
    return [repr(item) for item in items if item is not None]


def test_a_hundred_cuts_lose_nothing_and_tell_nothing_twice(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, proxy: Proxy) -> None:
        direct = ramet.Client(str(served.client.base_url))
        broken = ramet.Client(proxy.url, reconnects=100)

        def once() -> None:
            before = len(jobs_of(served))
            stream = broken.stream(SOURCE, topic=f"tea {before}")
            events = [*stream]
            assert len(jobs_of(served)) == before + 1  # it ran once
            job = jobs_of(served)[-1]
            assert [*map(repr, events), repr(stream.result())] == told_by(job)
            assert stream.result().value == direct.run(SOURCE, topic=f"tea {before}").value

        with direct, broken:
            while proxy.done < 100:
                await asyncio.to_thread(once)

    over(byte_tokenizer, body, random_cuts(1, 4_000))


def test_coroutines_come_back_too(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, proxy: Proxy) -> None:
        async with ramet.AsyncClient(proxy.url, reconnects=100) as broken:
            while proxy.done < 20:
                before = len(jobs_of(served))
                items = [item async for item in broken.stream(SOURCE, topic=f"tea {before}")]
                assert len(jobs_of(served)) == before + 1
                assert [*map(repr, items)] == told_by(jobs_of(served)[-1])

    over(byte_tokenizer, body, random_cuts(2, 4_000))


def test_one_answer_is_asked_for_again_and_runs_once(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, proxy: Proxy) -> None:
        with ramet.Client(str(served.client.base_url)) as direct:
            wanted = (await asyncio.to_thread(direct.run, SOURCE, topic="tea")).value
        while proxy.done < 5:
            before = len(jobs_of(served))
            with ramet.Client(proxy.url, reconnects=100) as broken:
                found = await asyncio.to_thread(broken.run, SOURCE, topic="tea")
            assert (found.value, len(jobs_of(served))) == (wanted, before + 1)
        while proxy.done < 10:
            before = len(jobs_of(served))
            async with ramet.AsyncClient(proxy.url, reconnects=100) as broken:
                batch = await broken.run_batch(SOURCE, [{"topic": "tea"}, {"topic": "milk"}])
            assert isinstance(batch[0], RemoteFinished)
            assert (batch[0].value, len(jobs_of(served))) == (wanted, before + 1)

    over(byte_tokenizer, body, random_cuts(3, 8_000))


def test_without_reconnects_a_break_ends_the_run(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, proxy: Proxy) -> None:
        with ramet.Client(proxy.url, reconnects=0) as broken:
            with pytest.raises(RemoteError, match="does not answer"):
                await asyncio.to_thread(lambda: broken.stream(LONG).result())
            with pytest.raises(RemoteError, match="does not answer"):
                await asyncio.to_thread(broken.run, SOURCE, topic="x")
        assert await served.all_back(1.0)

    over(byte_tokenizer, body, iter([Cut("answer", 2_000), Cut("ask", 10**9), Cut("answer", 20)]))


def test_who_never_comes_back_is_cancelled_a_little_later(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following_module, "LINGER_S", 0.3)

    async def body(served: Served, proxy: Proxy) -> None:
        following = Following({"source": LONG}, returns=True)
        request = {**following.request(), "url": f"{proxy.url}/v1/programs"}
        with pytest.raises(httpx2.RemoteProtocolError):
            async with httpx2.AsyncClient() as http, http.stream(**request) as answer:
                await answer.aread()
        (job,) = jobs_of(served)
        assert job.status == "running"
        await asyncio.sleep(0.1)
        assert job.status == "running"
        assert await served.all_back(1.0)
        assert job.status == "cancelled"

    over(byte_tokenizer, body, iter([Cut("answer", 2_000)]))


class Stop(BaseException):
    """As an interrupt is."""


def breaks(client: ramet.Client) -> None:
    for _ in client.stream(LONG):
        break


def closes(client: ramet.Client) -> None:
    with client.stream(LONG) as stream:
        next(stream)


def fails(client: ramet.Client) -> None:
    def inside() -> None:
        for event in client.stream(LONG):
            raise ValueError(event)

    with pytest.raises(ValueError, match="NodeStarted"):
        inside()


def leaves_the_client(client: ramet.Client) -> None:
    with ramet.Client(client.url) as inner:
        stream = inner.stream(LONG)
        next(stream)
    del stream


def is_interrupted(client: ramet.Client) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stream = client.stream(LONG)
        next(stream)

        def read(self: Any, line: str) -> None:
            raise Stop

        patch.setattr(Following, "read", read)
        with pytest.raises(Stop):
            next(stream)


@pytest.mark.parametrize("leaves", [breaks, closes, fails, leaves_the_client, is_interrupted])
def test_who_leaves_early_cancels_at_once(
    byte_tokenizer: Tokenizer, leaves: Callable[[ramet.Client], None]
) -> None:
    async def body(served: Served, proxy: Proxy) -> None:
        with ramet.Client(proxy.url) as client:
            await asyncio.to_thread(leaves, client)
            gc.collect()
            assert await served.all_back(1.0)
        assert not [job for job in jobs_of(served) if job.status == "running"]

    over(byte_tokenizer, body, iter(()))


def test_coroutines_that_leave_cancel_at_once(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, proxy: Proxy) -> None:
        async with ramet.AsyncClient(proxy.url) as client:
            async for _ in client.stream(LONG):
                break
            assert await served.all_back(1.0)

            async def followed() -> None:
                async for _ in client.stream(LONG):
                    pass

            for wait in (0.02, 0.2):  # the first may come before the run does
                for work in (client.run(LONG), followed()):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(work, wait)
            assert await served.all_back(1.0)

    over(byte_tokenizer, body, iter(()))


class Interrupted:
    """An HTTP client whose user interrupts while it waits."""

    def __init__(self, url: str) -> None:
        self._url = url

    def request(self, method: str, url: str, **more: Any) -> None:
        with httpx2.Client(base_url=self._url, timeout=0.3) as http, suppress(httpx2.ReadTimeout):
            http.request(method, url, **more)
        raise Stop


def test_an_interrupted_run_is_cancelled_at_once(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(served: Served, proxy: Proxy) -> None:
        with ramet.Client(proxy.url) as client, monkeypatch.context() as patch:
            patch.setattr(client, "_http", Interrupted(proxy.url))
            with pytest.raises(Stop):
                await asyncio.to_thread(client.run, LONG)
        assert await served.all_back(1.0)
        assert not jobs_of(served)

    over(byte_tokenizer, body, iter(()))


def test_a_full_server_is_asked_again_when_it_says_so(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, proxy: Proxy) -> None:
        with (
            ramet.Client(str(served.client.base_url)) as client,
            ramet.Client(str(served.client.base_url), reconnects=0) as hasty,
        ):
            stream = await asyncio.to_thread(client.stream, LONG)
            with pytest.raises(RemoteError) as refused:
                await asyncio.to_thread(hasty.run, SOURCE, topic="x")
            assert refused.value.status == 429
            began = time.monotonic()
            waiting = asyncio.create_task(asyncio.to_thread(client.run, SOURCE, topic="x"))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(stream.close)
            assert (await waiting).value
            assert 1 <= time.monotonic() - began < 5
            with ramet.Client(client.url, timeout=0.5) as brief:
                stream = await asyncio.to_thread(client.stream, LONG)
                with pytest.raises(RemoteError):  # in so little time it is not asked again
                    await asyncio.to_thread(brief.run, SOURCE, topic="x")
                await asyncio.to_thread(stream.close)

    over(byte_tokenizer, body, iter(()), tenant=1)


def test_so_many_tries_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramet.client.tries.BACKOFF_S", 0.1)
    broken = httpx2.ReadError("cut")
    tries = Tries("http://x", 3, None)
    waits = [tries.broken(broken) for _ in range(3)]
    assert [0.05 * 2**at <= wait <= 0.1 * 2**at for at, wait in enumerate(waits)] == [True] * 3
    with pytest.raises(RemoteError, match="http://x does not answer: ReadError: cut"):
        tries.broken(broken)
    tries.heard(1)
    assert tries.broken(broken) <= 0.1
    tries.heard(1)  # not a new one
    assert tries.broken(broken) > 0.1
    full = httpx2.Response(503, headers={"Retry-After": "7"})
    tries = Tries("http://x", 2, None)
    assert [tries.refused(full) for _ in range(3)] == [7, 7, None]
    assert Tries("http://x", 2, 5).refused(full) is None
    assert Tries("http://x", 2, None).refused(httpx2.Response(400)) is None
    late = httpx2.Response(503, headers={"Retry-After": "3600"})
    assert Tries("http://x", 2, None).refused(late) is None
    with pytest.raises(RemoteError):
        Tries("http://x", 9, None).broken(httpx2.UnsupportedProtocol("ftp"))


def test_a_gap_in_the_events_is_an_error() -> None:
    def event(id: int) -> list[str]:
        return [f"id: {id}", "event: branch_opened", f'data: {{"path":"/{id}"}}', ""]

    whole = Following({}, returns=True)
    told = [whole.read(line) for id in (1, 2, 2, 1, 3) for line in event(id)]
    paths = [each.path for each in told if isinstance(each, BranchOpened)]
    assert paths == ["/1", "/2", "/3"]
    with pytest.raises(RemoteError, match="the events 4 to 6") as gap:
        [whole.read(line) for line in event(7)]
    assert gap.value.code == "events_dropped"
    assert not whole.over

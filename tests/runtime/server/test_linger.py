"""A run that lingers: it goes on for a while when nobody follows it; and cancelling by its key."""

import asyncio
from typing import Any

import httpx2
import pytest

from ramet.runtime.server.jobs import Job
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, listening, serve

LONG = 'program long():\n    "x"\n    gen a(max_tokens=4000, ignore_eos=true)\n'
KEYS = {"a-key": "alice", "b-key": "bob"}


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def left(served: Served, key: str | None = None, **more: Any) -> Job:
    """The job of a run that was followed for a moment."""
    before = set(served.app.state.server.jobs._jobs)
    body = {"source": LONG, "stream": True, **more}
    headers = {} if key is None else keyed(key)
    async with served.client.stream("POST", "/v1/programs", json=body, headers=headers) as answer:
        async for line in answer.aiter_lines():
            if line == "event: text":
                break
    await asyncio.sleep(0.05)
    (id,) = set(served.app.state.server.jobs._jobs) - before
    return served.app.state.server.jobs._jobs[id]


def test_it_goes_on_for_so_long(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        assert (await left(served)).status == "cancelled"
        assert (await left(served, linger=0)).status == "cancelled"
        assert (await left(served, "none", linger=0)).status == "cancelled"
        job = await left(served, linger=0.3)
        assert job.status == "running"
        assert await served.all_back(1.0)
        assert job.status == "cancelled"
        for wrong in (-1, 61, "1"):
            sent = {"source": LONG, "linger": wrong}
            assert (await served.client.post("/v1/programs", json=sent)).status_code == 400

    over(byte_tokenizer, body)


def test_who_comes_back_in_time_keeps_it(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        job = await left(served, linger=0.6)
        for _ in range(2):
            async with served.client.stream("GET", f"/v1/programs/{job.id}/events") as answer:
                lines = answer.aiter_lines()
                await anext(lines)
                await asyncio.sleep(0.7)
                assert job.status == "running"
        assert await served.all_back(2.0)
        assert job.status == "cancelled"

    over(byte_tokenizer, body)


def test_whoever_wants_it_longest_decides(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        job = await left(served, "k", linger=0.2)
        again = {"source": LONG, "background": True}
        answer = await served.client.post("/v1/programs", json=again, headers=keyed("k"))
        assert answer.json()["id"] == job.id
        await asyncio.sleep(0.4)
        assert job.status == "running"
        await served.client.delete(f"/v1/programs/{job.id}")

    over(byte_tokenizer, body)


def test_a_key_cancels_what_was_sent_with_it(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        client = served.client
        missing = await client.delete("/v1/programs")
        assert (missing.status_code, missing.json()["error"]["param"]) == (400, "Idempotency-Key")
        assert (await client.delete("/v1/programs", headers=keyed("k"))).status_code == 404
        sent = {"source": LONG, "background": True}
        id = (await client.post("/v1/programs", json=sent, headers=keyed("k"))).json()["id"]
        bob = {**keyed("k"), "Authorization": "Bearer b-key"}
        assert (await client.delete("/v1/programs", headers=bob)).status_code == 404
        gone = await client.delete("/v1/programs", headers=keyed("k"))
        assert (gone.json()["id"], gone.json()["status"]) == (id, "cancelled")
        assert await served.all_back()
        assert (await client.get(f"/v1/programs/{id}")).status_code == 404
        assert (await client.delete("/v1/programs", headers=keyed("k"))).status_code == 404
        anew = (await client.post("/v1/programs", json=sent, headers=keyed("k"))).json()["id"]
        assert anew != id
        await client.delete(f"/v1/programs/{anew}")

    serve(byte_tokenizer, body, keys=KEYS, key="a-key")


def test_one_answer_lingers_too(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        sent = {"source": LONG, "linger": 0.3}
        with pytest.raises(httpx2.TimeoutException):
            await served.client.post("/v1/programs", json=sent, timeout=0.2)
        await asyncio.sleep(0.05)
        (job,) = served.app.state.server.jobs._jobs.values()
        assert job.status == "running"
        assert await served.all_back(1.0)

    over(byte_tokenizer, body)


def over(tokenizer: Tokenizer, body: Any) -> None:
    async def main() -> None:
        async with listening(tokenizer) as (served, _):
            await body(served)
            assert await served.all_back()

    asyncio.run(main())

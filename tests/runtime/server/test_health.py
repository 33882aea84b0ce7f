"""Health says whether steps finish; nobody waits for an engine that does not go on."""

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, serve

RUN = {"source": 'program p():\n    "x"\n    gen a(max_tokens=50, ignore_eos=true)\n'}
QUESTIONS: list[tuple[str, str, Any]] = [
    ("GET", "/metrics", None),
    ("GET", "/v1/cache", None),
    ("DELETE", "/v1/cache", None),
    ("POST", "/v1/cache/explain", {"prompt": "x"}),
    ("POST", "/v1/cache/forget", {"prompt": "x"}),
    ("POST", "/v1/cache/pins", {"prompt": "x" * 99, "seconds": 60}),
    ("POST", "/flush_cache", None),
]


LONG: dict[str, Any] = {"max_tokens": 50, "ignore_eos": True}
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/programs", RUN),
    ("/v1/library/p/runs", {}),
    ("/v1/completions", {**LONG, "model": "toy", "prompt": ["x", "y"]}),
    ("/v1/completions", {"model": "toy", "prompt": "x", "max_tokens": 50, "beams": 2}),
    (
        "/v1/chat/completions",
        {**LONG, "model": "toy", "messages": [{"role": "user", "content": "x"}]},
    ),
    ("/generate", {"text": "x", "sampling_params": {"max_new_tokens": 50, "ignore_eos": True}}),
]


@contextmanager
def stuck(served: Served, after: int) -> Generator[threading.Event, None, None]:
    """Inside, a forward does not end that comes after so many others; set once it is there."""
    forward, inside, go_on = served.model.forward, threading.Event(), threading.Event()
    last = served.model.forwards + after

    def hanging(*args: Any) -> Any:
        if served.model.forwards >= last:
            inside.set()
            go_on.wait(20)
        return forward(*args)

    served.model.forward = hanging  # type: ignore[method-assign]
    try:
        yield inside
    finally:
        go_on.set()
        served.model.forward = forward  # type: ignore[method-assign]


def everybody(served: Served) -> list[asyncio.Task[httpx2.Response]]:
    """Somebody on every route, with a stream and without."""
    return [
        asyncio.create_task(served.client.post(path, json={**body, "stream": stream}))
        for path, body in ROUTES
        for stream in (False, True)
    ]


def told(answer: httpx2.Response) -> str | None:
    """The code of the error that an answer has, or a stream; None if it is well."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        error = answer.json().get("error")
        assert (error is None) == (answer.status_code == 200)
        assert error is None or "retry-after" in answer.headers
        return error and error["code"]
    events = [line for line in answer.text.splitlines() if line.startswith("data: {")]
    errors = [json.loads(each[6:])["error"]["code"] for each in events if '"error":{' in each]
    assert any(end in answer.text[-200:] for end in ("data: [DONE]", "event: done"))
    assert len(errors) <= 1
    return errors[0] if errors else None


async def until_health(served: Served, status: int) -> dict[str, Any]:
    for _ in range(500):
        answer = await served.client.get("/health")
        if answer.status_code == status:
            assert (await served.client.get("/ready")).status_code == status
            return answer.json()
        await asyncio.sleep(0.01)
    raise AssertionError(f"health never was {status}")


def test_a_step_that_hangs(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        go_on, inside = threading.Event(), threading.Event()
        forward = served.model.forward

        def stuck(*args: Any) -> Any:
            inside.set()
            go_on.wait(20)
            return forward(*args)

        served.model.forward = stuck  # type: ignore[method-assign]
        plain = asyncio.create_task(served.client.post("/v1/programs", json=RUN))
        streamed = asyncio.create_task(
            served.client.post("/v1/programs", json={**RUN, "stream": True})
        )
        assert await asyncio.to_thread(inside.wait, 10)
        questions = [
            asyncio.create_task(served.client.request(method, path, json=json))
            for method, path, json in QUESTIONS
        ]
        assert "longer than" in (await until_health(served, 503))["status"]
        async with asyncio.timeout(3):
            for question in questions:
                told = await question
                assert told.status_code == 503, told.url
                assert told.json()["error"]["code"] == "engine_stalled"
            answer = await plain
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "engine_stalled"
            assert "retry-after" in answer.headers
            assert "event: error\n" in (await streamed).text
        go_on.set()
        served.model.forward = forward  # type: ignore[method-assign]
        await until_health(served, 200)
        assert (await served.client.post("/v1/programs", json=RUN)).status_code == 200

    serve(byte_tokenizer, body, step_s=0.2)


@pytest.mark.parametrize(("after", "running"), [(0, 64), (8, 3)])
def test_nobody_waits_for_a_step_that_hangs(
    byte_tokenizer: Tokenizer, after: int, running: int
) -> None:
    """Whether they run or wait for their turn, had nothing yet or a part, follow or are away."""

    async def body(served: Served) -> None:
        client = served.client
        assert (await client.put("/v1/library/p", json=RUN)).status_code == 201
        with stuck(served, after) as inside:
            there = everybody(served)
            away = (await client.post("/v1/programs", json={**RUN, "background": True})).json()
            path = f"/v1/programs/{away['id']}"
            following = asyncio.create_task(client.get(f"{path}/events"))
            assert await asyncio.to_thread(inside.wait, 10)
            await until_health(served, 503)
            async with asyncio.timeout(3):
                answers = [await each for each in there]
                assert "engine_stalled" in (await following).text
            assert {told(each) for each in answers} == {"engine_stalled"}
            known = (await client.get(path)).json()
            assert (known["status"], known["error"]["code"]) == ("failed", "engine_stalled")
            async with asyncio.timeout(3):  # who comes meanwhile is told, too
                assert {told(await each) for each in everybody(served)} == {"engine_stalled"}
        await until_health(served, 200)
        assert {told(await each) for each in everybody(served)} == {None}

    serve(byte_tokenizer, body, step_s=1.0, running=running, model="toy")


def test_a_step_that_raises_under_everybody(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        assert (await served.client.put("/v1/library/p", json=RUN)).status_code == 201
        served.model.fail_at = {served.model.forwards + 8}
        there = everybody(served)
        async with asyncio.timeout(10):
            codes = [told(await each) for each in there]
        assert {*codes} == {"step_failed", None}, "who waited for a turn had it later"
        served.model.fail_at = {*range(served.model.forwards, served.model.forwards + 1_000)}
        there = everybody(served)
        async with asyncio.timeout(10):
            assert {told(await each) for each in there} == {"step_failed"}
        await until_health(served, 503)
        away = await served.client.post("/v1/programs", json={**RUN, "background": True})
        path = f"/v1/programs/{away.json()['id']}"
        events = (await served.client.get(f"{path}/events")).text
        assert '"step_failed"' in events
        assert events.endswith('"status":"failed"}\n\n')
        assert (await served.client.get(path)).json()["error"]["code"] == "step_failed"
        served.model.fail_at = set()
        assert {told(await each) for each in everybody(served)} == {None}
        await until_health(served, 200)

    serve(byte_tokenizer, body, step_s=2.0, running=4, model="toy")


def test_a_scheduler_that_raises_is_not_healthy(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        def broken() -> None:
            raise RuntimeError("no more")

        scheduler = served.engine.engine.core.scheduler
        scheduler.schedule = broken  # type: ignore[method-assign,assignment]
        async with asyncio.timeout(5):
            answers = [await each for each in everybody(served)]
        assert {told(each) for each in answers if each.status_code == 200} <= {"internal_error"}
        assert {each.status_code for each in answers} <= {200, 404, 500}
        await until_health(served, 503)
        del scheduler.schedule
        assert (await served.client.post("/v1/programs", json=RUN)).status_code == 200
        await until_health(served, 200)

    serve(byte_tokenizer, body, step_s=2.0, model="toy")


def test_a_step_that_raises(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        served.model.fail_at = {served.model.forwards}
        answer = await served.client.post("/v1/programs", json={**RUN, "stream": True})
        assert "event: error\n" in answer.text
        assert "caught fire" not in answer.text
        served.model.fail_at = {served.model.forwards}
        answer = await served.client.post("/v1/programs", json=RUN)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "step_failed")
        assert "failed" in (await until_health(served, 503))["status"]
        assert (await served.client.post("/v1/programs", json=RUN)).status_code == 200
        await until_health(served, 200)

    serve(byte_tokenizer, body, step_s=2.0)


def test_an_engine_that_ends(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        await served.engine.close()
        await until_health(served, 503)
        answer = await served.client.post("/v1/programs", json=RUN)
        assert answer.status_code == 503

    async def main() -> None:
        from tests.runtime.server.serving import serving

        try:
            async with serving(byte_tokenizer, step_s=0.2) as served:
                await body(served)
        except Exception as error:  # the check of what it holds asks an engine that is gone
            assert type(error).__name__ == "EngineClosed"  # noqa: PT017

    asyncio.run(main())


def test_nothing_of_the_inside_is_told(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        def broken() -> None:
            raise RuntimeError("/home/secret at 0xdeadbeef00")

        served.engine.engine.core.scheduler.schedule = broken  # type: ignore[method-assign,assignment]
        answer = await served.client.post("/v1/programs", json=RUN)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert "0x" not in answer.text
        del served.engine.engine.core.scheduler.schedule

    serve(byte_tokenizer, body)

"""Health says whether steps finish; nobody waits for an engine that does not go on."""

import asyncio
import threading
from typing import Any

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

"""What is kept of a program: its end whatever its size, and no more than so many bytes of all."""

import asyncio
import threading
from typing import Any

import pytest

from ramet.runtime.server import telling, wire
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.event_log import EventLog
from ramet.runtime.server.sse import dumps, dumps_beside
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, serve
from tests.runtime.server.test_programs import events_of

LARGE = 'program large(big: str):\n    "x"\n    gen a(max_tokens=2)\n    return big\n'


def test_what_ends_a_log_drops_nothing() -> None:
    log = EventLog(100)
    for _ in range(10):
        log.append("text", {"text": "x" * 30})
    assert log.size <= 100
    before = log.dropped
    log.append("result", '{"result":"%s"}' % ("y" * 1_000), ending=True)
    log.append("done", {}, ending=True)
    assert (log.dropped, log.last) == (before, 12)


def large(size: int, **more: Any) -> dict[str, Any]:
    return {"source": LARGE, "arguments": {"big": "b" * size}, **more}


def test_a_result_over_the_bound_of_the_log_is_streamed(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        sent = large(20_000, stream=True)
        events = events_of((await served.client.post("/v1/programs", json=sent)).text)
        assert [name for _, name, _ in events][-3:] == ["usage", "result", "done"]
        assert events[-2][2]["result"]["value"] == "b" * 20_000
        assert events[-3][2]["usage"] == events[-2][2]["result"]["usage"]

    serve(byte_tokenizer, body, log_bytes=2_000)


def test_kept_results_count(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        ids: list[str] = []
        for _ in range(4):
            sent = await served.client.post("/v1/programs", json=large(20_000))
            ids.append(sent.json()["id"])
        kept = served.app.state.server.jobs._jobs
        assert sum(each.size for each in kept.values()) <= 100_000
        assert len(kept) == 2  # each has its result twice: in its events, and of its own
        got = [(await served.client.get(f"/v1/programs/{id}")).status_code for id in ids]
        assert got == [404, 404, 200, 200]

    serve(byte_tokenizer, body, kept_bytes=100_000)


def test_results_are_not_made_where_everybody_waits(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    result_of = wire.result_of

    def noted(finished: Any) -> Any:
        there.append(threading.current_thread() is threading.main_thread())
        return result_of(finished)

    monkeypatch.setattr(wire, "result_of", noted)

    async def body(served: Served) -> None:
        sent = {"source": LARGE, "batch": [{"big": "a"}, {"big": "b"}]}
        told = (await served.client.post("/v1/programs", json=sent)).json()
        assert [each["result"]["value"] for each in told["results"]] == ["a", "b"]

    serve(byte_tokenizer, body)
    assert there == [False, False]


@pytest.mark.parametrize(("small", "expected"), [(wire.SMALL, False), (0, True)])
def test_large_values_are_not_encoded_where_everybody_waits(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, small: int, expected: bool
) -> None:
    there: dict[str, set[bool]] = {}
    encoded = wire.encoded

    def noted(event: Any, item: Any, **how: Any) -> Any:
        beside = threading.current_thread() is not threading.main_thread()
        assert beside == how.get("beside", False)
        there.setdefault(type(event).__name__, set()).add(beside)
        return encoded(event, item, **how)

    monkeypatch.setattr(telling, "encoded", noted)
    monkeypatch.setattr(wire, "SMALL", small)

    async def body(served: Served) -> None:
        sent = {"source": LARGE, "batch": [{"big": "a"}, {"big": "b"}], "stream": True}
        events = events_of((await served.client.post("/v1/programs", json=sent)).text)
        for item in (0, 1):
            mine = [name for _, name, data in events if data.get("item") == item]
            assert mine.index("value") > max(at for at, name in enumerate(mine) if name == "text")
            assert mine[-2:] == ["usage", "result"]

    serve(byte_tokenizer, body)
    assert there["ValueBound"] == {expected}
    assert there["TextDelta"] == {False}


@pytest.mark.parametrize(
    "value", [{"a": [1, 2.5, None, True, "é\ud800\u2028"]}, [], {}, "x", 1e300]
)
def test_json_made_beside_is_the_same(value: Any) -> None:
    assert dumps_beside(value) == dumps(value)


def test_json_made_beside_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dumps_beside({"a": float("nan")})


def test_results_that_dropped_out_of_the_log_are_in_the_answer(byte_tokenizer: Tokenizer) -> None:
    sizes = [3_000, 10, 3_000, 20]
    batch = [{"big": "b" * size} for size in sizes]

    async def body(served: Served) -> None:
        client = served.client
        sent = await client.post(
            "/v1/programs", json={"source": LARGE, "batch": batch, "background": True}
        )
        id = sent.json()["id"]
        told = sent.json()
        async with asyncio.timeout(30):
            while told["status"] == "running":
                await asyncio.sleep(0.01)
                told = (await client.get(f"/v1/programs/{id}")).json()
        assert [len(each["result"]["value"]) for each in told["results"]] == sizes
        late = await client.get(f"/v1/programs/{id}/events", headers={"Last-Event-ID": "0"})
        assert (late.status_code, late.json()["error"]["code"]) == (410, "events_dropped")
        kept = events_of((await client.get(f"/v1/programs/{id}/events")).text)
        assert kept[0][0] > 1
        assert kept[-1][1] == "done"
        results = [data for _, name, data in kept if name == "result"]
        assert len(results) < len(sizes)  # not all of them: the answer has them

    serve(byte_tokenizer, body, log_bytes=4_000)


def test_who_follows_too_slowly_is_told(byte_tokenizer: Tokenizer) -> None:
    log = EventLog(300)
    told: list[str] = []

    async def main() -> None:
        events = log.follow()
        log.append("text", {"text": "x" * 30})
        told.append((await anext(events)).decode())
        for _ in range(20):
            log.append("text", {"text": "y" * 30})
        with pytest.raises(Refused) as dropped:
            await anext(events)
        assert (dropped.value.status, dropped.value.code) == (410, "events_dropped")

    asyncio.run(main())
    assert len(told) == 1

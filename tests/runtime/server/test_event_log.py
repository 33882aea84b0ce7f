"""What is kept of a program: its end whatever its size, and no more than so many bytes of all."""

import threading
from typing import Any

import pytest

from ramet.runtime.server import wire
from ramet.runtime.server.event_log import EventLog
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
        jobs = served.app.state.server.jobs
        assert sum(each.size for each in jobs._jobs.values()) <= 100_000
        assert len(jobs._jobs) == 2  # each has its result twice: in its events, and of its own
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

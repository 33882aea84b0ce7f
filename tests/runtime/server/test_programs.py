"""`/v1/programs`: run, stream, come back, cancel; batches, seeds, limits, mistakes."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

import ramet
from ramet.runtime.server.routes import programs
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, serve

TIPS = """\
program tips(topic: str, n: int = 2):
    "Tips about {topic}."
    fork i in range(n) as tips:
        "Tip {i + 1}:"
        gen tip(max_tokens=6, ignore_eos=true)
    "In short,"
    gen summary(max_tokens=8, ignore_eos=true)
    return {summary, tips: tips.tip}
"""
LONG = """\
program long(tokens: int = 4000):
    "on and on"
    gen text(max_tokens=tokens, ignore_eos=true)
"""
RUN = {"source": TIPS, "arguments": {"topic": "tea"}}

Event = tuple[int, str, dict[str, Any]]


def events_of(text: str) -> list[Event]:
    """The events of a stream: id, name and data."""
    found: list[Event] = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines)
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


async def result(served: Served, **body: Any) -> dict[str, Any]:
    answer = await served.client.post("/v1/programs", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_run_gives_what_the_engine_gives(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        told = await result(served, **RUN)
        local = await served.engine.run(ramet.loads(TIPS), topic="tea")
        assert told["status"] == "done"
        assert told["program"] == "tips"
        found = told["result"]
        assert found["value"] == local.value
        assert found["text"] == local.text
        assert [b["text"] for b in found["branches"]] == [b.text for b in local.root.branches]
        assert found["usage"]["generated"] == local.usage.generated == 20

    serve(byte_tokenizer, body)


def test_a_graph_runs_as_its_program(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        graph = json.loads(ramet.to_json(ramet.loads(TIPS).compile(n=2).graph))
        told = await result(served, graph=graph, arguments={"topic": "tea"})
        assert told["result"]["value"] == (await result(served, **RUN))["result"]["value"]

    serve(byte_tokenizer, body)


def test_a_stream_tells_what_one_answer_does(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        plain = await result(served, **RUN)
        answer = await served.client.post("/v1/programs", json={**RUN, "stream": True})
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = events_of(answer.text)
        assert [id for id, _, _ in events] == [*range(1, len(events) + 1)]
        names = [name for _, name, _ in events]
        assert names[0] == "created"
        assert names[-3:] == ["usage", "result", "done"]
        assert {"node", "text", "value", "branch_opened"} <= {*names}
        (final,) = [data for _, name, data in events if name == "result"]
        assert final["result"]["value"] == plain["result"]["value"]
        values = {(d["node"], d["path"]): d["value"] for _, n, d in events if n == "value"}
        written: dict[tuple[int, str], str] = {}
        for _, name, data in events:
            if name == "text":
                key = (data["node"], data["path"])
                written[key] = written.get(key, "") + data["text"]
                assert data["tokens"]
        assert written == values
        assert events[0][2]["id"] == answer.headers["x-program-id"] == events[-1][2]["id"]

    serve(byte_tokenizer, body)


def test_a_batch_shares_and_keeps_its_order(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        topics = ["tea", "milk", "tea"]
        told = await result(served, source=TIPS, batch=[{"topic": t} for t in topics])
        alone = [(await result(served, source=TIPS, arguments={"topic": t})) for t in topics]
        assert [each["result"]["value"] for each in told["results"]] == [
            each["result"]["value"] for each in alone
        ]

        wrong = await result(served, source=TIPS, batch=[{"topic": "tea"}, {"topik": "x"}])
        assert wrong["status"] == "done"
        assert "result" in wrong["results"][0]
        assert "did you mean 'topic'" in wrong["results"][1]["error"]["message"]

        answer = await served.client.post(
            "/v1/programs", json={"source": TIPS, "batch": [{"topic": "a"}] * 2, "stream": True}
        )
        items = [data["item"] for _, name, data in events_of(answer.text) if name == "result"]
        assert sorted(items) == [0, 1]

    serve(byte_tokenizer, body)


def test_a_seed_decides_every_draw(byte_tokenizer: Tokenizer) -> None:
    source = 'program p():\n    "x"\n    gen a(max_tokens=8, temperature=1.5, ignore_eos=true)\n'

    async def body(served: Served) -> None:
        async def drawn(seed: int) -> str:
            return (await result(served, source=source, seed=seed))["result"]["variables"]["a"]

        assert await drawn(1) == await drawn(1)
        assert await drawn(1) != await drawn(2)
        both = await result(served, source=source, batch=[{}, {}], seed=1)
        texts = [each["result"]["variables"]["a"] for each in both["results"]]
        assert texts == [await drawn(1), await drawn(2)]

    serve(byte_tokenizer, body)


def test_who_comes_back_goes_on_where_they_were(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        answer = await served.client.post("/v1/programs", json={**RUN, "background": True})
        assert answer.status_code == 202
        id = answer.json()["id"]
        path = f"/v1/programs/{id}/events"
        assert answer.headers["location"] == f"/v1/programs/{id}"
        whole = events_of((await served.client.get(path)).text)
        assert whole[-1][1] == "done"
        for last in (0, 1, 5, len(whole) - 1):
            rest = await served.client.get(path, headers={"Last-Event-ID": str(last)})
            assert events_of(rest.text) == whole[last:]
        late = await served.client.get(path, headers={"Last-Event-ID": "99999"})
        assert late.status_code == 400
        status = (await served.client.get(f"/v1/programs/{id}")).json()
        assert status["status"] == "done"
        assert status["result"] == whole[-2][2]["result"]

    serve(byte_tokenizer, body)


def test_events_that_are_dropped_are_told_of(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        answer = await served.client.post("/v1/programs", json={**RUN, "background": True})
        id = answer.json()["id"]
        path = f"/v1/programs/{id}/events"
        await served.client.get(path)
        kept = events_of((await served.client.get(path)).text)
        assert kept[-1][1] == "done"
        gone = await served.client.get(path, headers={"Last-Event-ID": "1"})
        assert gone.status_code == 410
        assert gone.json()["error"]["code"] == "events_dropped"
        assert (await served.client.get(f"/v1/programs/{id}")).json()["status"] == "done"

    serve(byte_tokenizer, body, log_bytes=2_000)


def test_cancelling_gives_everything_back(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        answer = await served.client.post("/v1/programs", json={"source": LONG, "background": True})
        id = answer.json()["id"]
        for _ in range(500):
            if (await served.engine.stats()).cache.held:
                break
            await asyncio.sleep(0.01)
        gone = await served.client.delete(f"/v1/programs/{id}")
        assert gone.json()["status"] == "cancelled"
        assert gone.json()["error"]["code"] == "cancelled"
        assert await served.all_back()
        assert (await served.client.get(f"/v1/programs/{id}")).status_code == 404

    serve(byte_tokenizer, body)


def test_who_waits_for_what_another_cancels_is_told(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        def send(**more: Any) -> Any:
            headers = {"Idempotency-Key": "a"}
            return served.client.post(
                "/v1/programs", json={"source": LONG, **more}, headers=headers
            )

        id = (await send(background=True)).json()["id"]
        waiting = asyncio.create_task(send())
        job = served.app.state.server.jobs._jobs[id]
        for _ in range(500):
            if job.followers:
                break
            await asyncio.sleep(0.001)
        await served.client.delete(f"/v1/programs/{id}")
        answer = await waiting
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "cancelled")

    serve(byte_tokenizer, body)


def test_the_same_key_runs_once(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        async def send(key: str, **more: Any) -> Any:
            headers = {"Idempotency-Key": key}
            return await served.client.post("/v1/programs", json={**RUN, **more}, headers=headers)

        first, second = await asyncio.gather(send("a"), send("a"))
        assert first.json()["id"] == second.json()["id"]
        before = (await served.engine.stats()).steps
        streamed = await send("a", stream=True)
        assert events_of(streamed.text)[-2][2]["result"] == first.json()["result"]
        assert (await served.engine.stats()).steps == before
        assert (await send("b")).json()["id"] != first.json()["id"]
        other = await send("a", arguments={"topic": "milk"})
        assert other.status_code == 409
        assert other.json()["error"]["code"] == "idempotency_mismatch"
        assert (await send("k" * 256)).status_code == 400

    serve(byte_tokenizer, body)


def test_a_key_that_is_known_needs_no_turn_and_no_compiler(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(served: Served) -> None:
        async def send() -> Any:
            return await served.client.post(
                "/v1/programs",
                json={"source": LONG, "background": True},
                headers={"Idempotency-Key": "a"},
            )

        first = await send()
        monkeypatch.setattr(programs, "load", None)
        again = await send()
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        await served.client.delete(f"/v1/programs/{first.json()['id']}")

    serve(byte_tokenizer, body, tenant=1)


def test_a_batch_that_the_server_failed_is_started_anew(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        async def send() -> Any:
            batch = {"source": TIPS, "batch": [{"topic": "tea"}, {"topic": "milk"}]}
            headers = {"Idempotency-Key": "a"}
            return (await served.client.post("/v1/programs", json=batch, headers=headers)).json()

        served.model.fail_at = set(range(50))
        failed = await send()
        assert [each["error"]["code"] for each in failed["results"]] == ["step_failed"] * 2
        served.model.fail_at = set()
        right = await send()
        assert right["id"] != failed["id"]
        assert all("result" in each for each in right["results"])
        assert (await send())["id"] == right["id"]

    serve(byte_tokenizer, body)


def test_checking_has_its_own_threads_and_so_much_room(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(*args: Any) -> dict[str, Any]:
        go_on.wait(10)
        return {}

    monkeypatch.setattr(programs, "check", slow)

    async def body(served: Served) -> None:
        def check() -> Any:
            return served.client.post("/v1/programs/check", json={"source": TIPS})

        waiting = [asyncio.create_task(check()) for _ in range(3)]
        for _ in range(500):
            if served.app.state.server.checks._of.total() == 3:
                break
            await asyncio.sleep(0.01)
        for path in ("/v1/programs/plan", "/v1/programs/check"):
            full = await served.client.post(path, json={"source": TIPS})
            assert (full.status_code, full.json()["error"]["code"]) == (503, "too_much_to_read")
            assert "retry-after" in full.headers
        full = await served.client.put("/v1/library/a", json={"source": TIPS})
        assert full.status_code == 503
        assert (await result(served, **RUN))["status"] == "done"
        long = {"model": "default", "prompt": "x" * 5_000, "max_tokens": 1}
        async with asyncio.timeout(5):
            assert (await served.client.post("/v1/completions", json=long)).status_code == 400
        go_on.set()
        assert [(await each).status_code for each in waiting] == [200] * 3
        assert (await check()).status_code == 200

    serve(byte_tokenizer, body, checking=3)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ({}, "invalid_request", "give source or graph"),
        ({"source": TIPS, "graph": {}}, "invalid_request", "give source or graph"),
        ({"sauce": TIPS}, "invalid_request", "sauce"),
        ({**RUN, "batch": []}, "invalid_request", "arguments or batch"),
        ({"source": TIPS, "batch": []}, "invalid_value", "empty"),
        ({"source": TIPS}, "program_error", "topic"),
        ({"source": TIPS, "arguments": {"topic": 3}}, "program_error", "topic must be str"),
        ({"source": TIPS, "program": "tipz", "arguments": {}}, "program_error", "mean 'tips'"),
        ({"graph": {"version": 1}}, "graph_error", "is missing"),
        ({"source": ""}, "program_error", ""),
        ({**RUN, "seed": -1}, "invalid_request", "seed"),
        ({**RUN, "limits": {"tokens": 10**9}}, "limit_exceeded", "limits.tokens"),
        ({**RUN, "limits": {"token": 1}}, "invalid_value", "did you mean 'tokens'"),
        ({**RUN, "limits": {"tokens": 3}}, "limit_exceeded", "more than 3 tokens"),
    ],
)
def test_mistakes_are_told_and_nothing_runs(
    byte_tokenizer: Tokenizer, body: dict[str, Any], code: str, says: str
) -> None:
    async def check(served: Served) -> None:
        answer = await served.client.post("/v1/programs", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, code), error
        assert says in error["message"]
        assert error["type"] == "invalid_request_error"

    serve(byte_tokenizer, check)


def test_mistakes_of_a_program_have_their_places(byte_tokenizer: Tokenizer) -> None:
    source = 'program p(a: str):\n    "{b}"\n    gen x(max_token=3)\n'

    async def body(served: Served) -> None:
        answer = await served.client.post("/v1/programs", json={"source": source})
        found = answer.json()["error"]["diagnostics"]
        assert [(each["line"], each["column"]) for each in found] == [(2, 7), (3, 11)]
        assert found[1]["source"] == "    gen x(max_token=3)"
        checked = await served.client.post("/v1/programs/check", json={"source": source})
        assert checked.json() == {"ok": False, "programs": [], "mistakes": found}
        assert served.model.forwards == 0

    serve(byte_tokenizer, body)


def test_check_and_plan(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        checked = (await served.client.post("/v1/programs/check", json={"source": TIPS})).json()
        assert checked["ok"]
        assert checked["programs"] == [
            {
                "name": "tips",
                "parameters": [
                    {"name": "topic", "type": "str"},
                    {"name": "n", "type": "int", "default": 2},
                ],
            }
        ]
        body = {"source": TIPS, "arguments": {"n": 3}}
        planned = (await served.client.post("/v1/programs/plan", json=body)).json()
        assert planned["program"] == "tips"
        assert planned["branches"] == 3
        assert planned["generated"] == 3 * 6 + 8
        assert planned["inputs"] == ["topic"]
        assert served.model.forwards == 0

    serve(byte_tokenizer, body)


def limited(setting: str) -> str:
    return f'program p():\n    "x"\n    gen a(max_tokens=2, ignore_eos=true, {setting})\n'


@pytest.mark.parametrize(
    ("fits", "over", "name"),
    [
        ("n=2, temperature=1.0", "n=3, temperature=1.0", "n"),
        ("beams=2", "beams=3", "beams"),
        ("best_of=2, temperature=1.0", "best_of=3, temperature=1.0", "best_of"),
        ("logprobs=1", "logprobs=2", "logprobs"),
        ('stop=["a", "b"]', 'stop=["a", "b", "c"]', "stop"),
        ('stop="abcd"', 'stop="abcde"', "stop"),
    ],
)
def test_limits_hold_to_the_unit(
    byte_tokenizer: Tokenizer, fits: str, over: str, name: str
) -> None:
    async def body(served: Served) -> None:
        await result(served, source=limited(fits))
        before = served.model.forwards
        answer = await served.client.post("/v1/programs", json={"source": limited(over)})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["limit"]) == (400, "limit_exceeded", name)
        assert served.model.forwards == before

    serve(byte_tokenizer, body, n=2, beams=2, logprobs=1, stops=2, stop_bytes=4)


def test_bodies_batches_sources_and_texts_are_bounded(byte_tokenizer: Tokenizer) -> None:
    def text(size: int) -> dict[str, Any]:
        source = 'program p(t: str):\n    "{t}"\n    gen a(max_tokens=1)\n'
        return {"source": source, "arguments": {"t": "x" * size}}

    async def body(served: Served) -> None:
        async def status(json: Any, path: str = "/v1/programs") -> tuple[int, str | None]:
            answer = await served.client.post(path, json=json)
            return answer.status_code, answer.json().get("error", {}).get("code")

        assert await status({"source": TIPS, "batch": [{"topic": "x"}] * 3}) == (200, None)
        batch = {"source": TIPS, "batch": [{"topic": "x"}] * 4}
        assert await status(batch) == (400, "limit_exceeded")
        assert await status(text(1_600)) == (400, "context_length_exceeded")
        assert await status(text(1_601)) == (400, "context_length_exceeded")
        assert (await status({"source": "#" * 70_000})) == (400, "limit_exceeded")
        assert await status(text(100_000)) == (413, "body_too_large")
        assert served.model.tokens_run < 1_600

    serve(byte_tokenizer, body, prompts=3, body_bytes=100_000, context=100)


def test_a_body_without_a_length_is_refused_while_it_is_read(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        read = 0

        async def chunks() -> AsyncGenerator[bytes, None]:
            nonlocal read
            for _ in range(1_000):
                read += 1_000
                yield b" " * 1_000

        answer = await served.client.post(
            "/v1/programs", content=chunks(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"

    serve(byte_tokenizer, body, body_bytes=10_000)

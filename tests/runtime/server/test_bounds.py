"""Numbers and names that no server holds: refused before anything is made for them."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import ramet
from ramet.limits import Limits
from ramet.runtime.server import sse
from ramet.runtime.server.auth import LOCAL
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.routes import programs
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, serve

HELLO = [{"role": "user", "content": "Hello!"}]
SOURCE = 'program p():\n    "x"\n    gen a(max_tokens=2)\n'


def asks(n: int, tokens: int) -> list[tuple[str, dict[str, Any]]]:
    own = {"model": "default", "n": n, "max_tokens": tokens}
    sampling = {"n": n, "max_new_tokens": tokens}
    return [
        ("/v1/completions", {**own, "prompt": "a"}),
        ("/v1/chat/completions", {**own, "messages": HELLO}),
        ("/generate", {"text": "a", "sampling_params": sampling}),
    ]


async def streamed(served: Served, path: str, ask: dict[str, Any], send: Any) -> None:
    """Ask for a stream; each message of the answer is given to `send` as it comes."""
    body = json.dumps({**ask, "stream": True}).encode()
    come = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return come.pop() if come else await asyncio.Event().wait()

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }
    await served.app(scope, receive, send)


async def refusal(served: Served, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(5):
        answer = await served.client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert served.model.forwards == 0
    return answer.json()["error"]


def test_no_number_of_samples_is_too_much_for_the_server(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        for path, ask in [*asks(2**63, 4), asks(2**63, 0)[0]]:
            error = await refusal(served, path, ask)
            assert (error["param"], error["most"]) == ("n", 16), path

    serve(byte_tokenizer, body)


def test_samples_and_beams_share_the_tokens_of_a_run(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        beams = ("/v1/completions", {"model": "default", "prompt": "a", "beams": 2})
        for path, ask in [*asks(2, 11), (beams[0], {**beams[1], "max_tokens": 11})]:
            error = await refusal(served, path, ask)
            told = (error["code"], error["param"], error["limit"], error["most"])
            assert told == ("limit_exceeded", "max_tokens", "tokens", 20), path
        chat = {"model": "default", "messages": HELLO}
        unsaid = [("/v1/chat/completions", {**chat, each: 2}) for each in ("n", "beams")]
        for path, ask in [*asks(2, 10), *unsaid]:
            assert (await served.client.post(path, json=ask)).status_code == 200, path

    serve(byte_tokenizer, body, program=Limits(tokens=20))


def test_a_generation_takes_no_longer_than_a_run(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        for path, ask in asks(1, 4000):
            for stream in (False, True):
                where = ask.get("sampling_params", ask)
                where["ignore_eos"] = True
                async with asyncio.timeout(5):
                    answer = await served.client.post(path, json={**ask, "stream": stream})
                assert answer.status_code == (200 if stream else 400)
                assert '"limit":"seconds"' in answer.text, path
                assert await served.all_back()

    serve(byte_tokenizer, body, program=Limits(seconds=0.1))


@pytest.mark.parametrize(
    "name", ["hold", "__class__", "__init__", "source_bytes", "nesting", "tokens\n" * 9_000]
)
def test_only_a_limit_of_a_run_is_one(byte_tokenizer: Tokenizer, name: str) -> None:
    async def body(served: Served) -> None:
        error = await refusal(served, "/v1/programs", {"source": SOURCE, "limits": {name: 1}})
        assert (error["code"], error["param"]) == ("invalid_value", "limits")
        assert "there is no limit" in error["message"]
        assert len(error["message"]) < 200

    serve(byte_tokenizer, body)


def test_a_program_that_is_not_there_is_told_in_short(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        sent = {"source": SOURCE, "program": "q" * 100_000}
        assert len((await refusal(served, "/v1/programs", sent))["message"]) < 200

    serve(byte_tokenizer, body)


def test_a_stream_that_cannot_begin_leaves_no_reservation(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        kept: list[Any] = []  # or else the garbage collector closes what nobody does
        sys.set_asyncgen_hooks(firstiter=kept.append)

        async def send(message: Any) -> None:
            raise OSError("the client is gone")

        for path, ask in asks(1, 4000):
            await streamed(served, path, ask, send)
            turns = served.app.state.server.runs.turns
            assert (turns.running, turns._of.total()) == (0, 0), path

    serve(byte_tokenizer, body)


def test_a_stream_that_waits_begins_all_the_same(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEAD_S", 0.05)

    async def body(served: Served) -> None:
        for fails in (False, True):
            for path, ask in asks(1, 2):
                go_on, begun = threading.Event(), asyncio.Event()
                forward, sent = served.model.forward, bytearray()

                def slow(*args: Any, go_on: Any = go_on, forward: Any = forward) -> Any:
                    go_on.wait(10)
                    return forward(*args)

                async def send(message: Any, begun: Any = begun, sent: Any = sent) -> None:
                    assert message.get("status", 200) == 200
                    begun.set()
                    sent += message.get("body", b"")

                served.model.forward = slow  # type: ignore[method-assign]
                answer = asyncio.create_task(streamed(served, path, ask, send))
                async with asyncio.timeout(5):
                    await begun.wait()
                if fails:
                    served.app.state.server.runs.end_all(Refused(503, "enough"))
                go_on.set()
                await answer
                served.model.forward = forward  # type: ignore[method-assign]
                assert (b"enough" in sent) == fails
                assert sent.endswith(b"data: [DONE]\n\n")
                assert await served.all_back()

    serve(byte_tokenizer, body)


LONG = {"source": 'program p(text: str):\n    "{text}"\n    gen a(max_tokens=2)\n'}
JSON = {"Content-Type": "application/json"}


def sized(path: str, tokens: int) -> bytes:
    """A request that counts so many tokens: its prompt's, or a 16th of the program's bytes."""
    if path == "/v1/completions":
        return json.dumps({"model": "default", "prompt": "a" * tokens, "max_tokens": 1}).encode()
    if path == "/generate":
        return json.dumps({"text": "a" * tokens, "sampling_params": {"max_new_tokens": 1}}).encode()
    stored = path != "/v1/programs"
    kept = len(json.dumps(LONG)) if stored else 0
    program = {} if stored else LONG
    empty = len(json.dumps({**program, "arguments": {"text": ""}}))
    text = "a" * (16 * tokens - kept - empty)
    return json.dumps({**program, "arguments": {"text": text}}).encode()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for it, for two seconds at most."""
    for _ in range(2_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come about")


@pytest.mark.parametrize(
    "path", ["/v1/completions", "/generate", "/v1/programs", "/v1/library/it/runs"]
)
def test_the_text_that_waits_is_bounded(byte_tokenizer: Tokenizer, path: str) -> None:
    """40 tokens wait for the only turn: 24 more may, and 25 may not."""

    async def body(served: Served) -> None:
        client, turns = served.client, served.app.state.server.runs.turns
        await client.put("/v1/library/it", content=json.dumps(LONG), headers=JSON)

        def post(tokens: int) -> asyncio.Task[Any]:
            asked = client.post(path, content=sized(path, tokens), headers=JSON)
            return asyncio.create_task(asked)

        async with turns.turn(LOCAL):
            taken = [post(40)]
            await until(lambda: (turns.waiting, turns.text) == (1, 40))
            full = await post(25)
            assert full.status_code == 503
            error = full.json()["error"]
            assert (error["code"], error["type"]) == ("queue_full", "overloaded_error")
            assert "40 tokens wait, of 64 that can" in error["message"]
            assert int(full.headers["retry-after"]) >= 1
            taken.append(post(24))
            await until(lambda: (turns.waiting, turns.text) == (2, 64))
            told = (await client.get("/metrics")).text
            assert "\nramet_num_tokens_waiting 64.0\n" in told
            assert (await post(23)).status_code == 503
        assert [(await each).status_code for each in taken] == [200, 200]
        assert turns.text == 0
        async with turns.turn(LOCAL):
            large = post(100)
            await until(lambda: (turns.waiting, turns.text) == (1, 100))
        assert (await large).status_code == 200, "alone it waits, whatever its size"

    serve(byte_tokenizer, body, running=1, queue_tokens=64)


def test_four_contexts_of_text_wait_where_nothing_else_is_said(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        turns = served.app.state.server.runs.turns
        async with turns.turn(LOCAL):
            one = turns.reserve(LOCAL, [1])
            turns.check(LOCAL, [4 * 512 - 1])
            with pytest.raises(Refused):
                turns.check(LOCAL, [4 * 512])
            turns.release(one)

    serve(byte_tokenizer, body, running=1, context=512)


def test_a_tenant_reads_half_of_what_can_be_read(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fills its half of `checking`; another checks, plans and stores all the same."""
    go_on = threading.Event()

    def slow(*args: Any) -> dict[str, Any]:
        go_on.wait(10)
        return {}

    monkeypatch.setattr(programs, "check", slow)

    async def body(served: Served) -> None:
        def check(key: str) -> asyncio.Task[Any]:
            headers = {"Authorization": f"Bearer {key}"}
            asked = served.client.post("/v1/programs/check", json=LONG, headers=headers)
            return asyncio.create_task(asked)

        flood = [check("a-key") for _ in range(7)]
        await until(lambda: sum(each.done() for each in flood) == 4)
        for each in flood:
            if not each.done():
                continue
            error = (await each).json()["error"]
            assert ((await each).status_code, error["code"]) == (503, "too_much_to_read")
            assert error["message"].startswith("3 programs of yours")
        others = [check("b-key") for _ in range(3)]
        await until(lambda: served.app.state.server.checks._of == {"a": 3, "b": 3})
        error = (await check("c-key")).json()["error"]
        assert error["message"].startswith("6 programs are being read")
        go_on.set()
        assert {(await each).status_code for each in (*flood, *others)} == {200, 503}
        assert (await check("a-key")).status_code == 200

    keys = {f"{name}-key": name for name in "abc"}
    serve(byte_tokenizer, body, checking=6, keys=keys)


def test_names_in_a_graph_are_as_short_as_in_text(byte_tokenizer: Tokenizer) -> None:
    def graph(name: str, variable: str) -> dict[str, Any]:
        found = json.loads(ramet.to_json(ramet.loads(SOURCE).compile().graph))
        found["name"] = name
        for node in found["nodes"]:
            if "name" in node:
                node["name"] = variable
        return {"graph": found}

    async def body(served: Served) -> None:
        for name, variable, path in [("n" * 101, "v", "$.name"), ("n", "v" * 101, "$.nodes[2]")]:
            error = await refusal(served, "/v1/programs", graph(name, variable))
            assert error["code"] == "graph_error"
            assert error["param"].startswith(path)
            assert "100 characters" in error["message"]
            checked = await served.client.post("/v1/programs/check", json=graph(name, variable))
            assert not checked.json()["ok"]
        right = await served.client.post("/v1/programs", json=graph("n" * 100, "v" * 100))
        assert right.status_code == 200

    serve(byte_tokenizer, body)

"""What nobody sends by mistake: every answer is 4xx with a reason, and the server goes on."""

import asyncio
import json
import logging
import re
import socket
from contextlib import suppress
from typing import Any

import pytest

from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, listening, serve

GOOD = {"source": 'program p(a: str = "x"):\n    "{a}"\n    gen b(max_tokens=2)\n'}
ECHO = 'program p(a: list):\n    "x"\n    gen b(max_tokens=2)\n    return a\n'
DEEP = 100_000
INSIDES = re.compile(r"0x[0-9a-f]{6,}|Traceback|\.py\b|site-packages")


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"{}" * 3,
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP,
        b'{"source": NaN}',
        b'{"source": "x", "seed": 1e400}',
        b'{"source": "x", "seed": ' + b"9" * 5_000 + b"}",
        b'{"source": "\\ud800"}',
        b'{"source": "program p():\\n    \\"\\ud800\\"\\n    gen a(max_tokens=1)\\n"}',
        b'{"source": "\\u0000"}',
        b'{"graph": {"version": 1, "nodes": [' + b'{"kind": "root"},' * 5_000 + b"{}]}}",
        b'{"graph": ' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}",
        json.dumps({"source": ECHO, "arguments": {"a": nested(40)}}).encode(),
        json.dumps({"source": ECHO, "batch": [{"a": nested(900)}]}).encode(),
        json.dumps({**GOOD, "limits": {"seconds": -1}}).encode(),
        json.dumps({**GOOD, "limits": {"tokens": True}}).encode(),
        json.dumps({**GOOD, "limits": {"source_bytes": "9"}}).encode(),
        json.dumps({**GOOD, "program": "p\n\r" * 100}).encode(),
        json.dumps({**GOOD, "arguments": {"a" * 10_000: 1}}).encode(),
        json.dumps({**GOOD, "arguments": {"a": None}}).encode(),
        json.dumps({"source": "program p():\n    let a = " + "(" * 40 + "1" + ")" * 40}).encode(),
        json.dumps({"source": "(" * 60_000}).encode(),
        json.dumps({"source": "x" * 65_537}).encode(),
    ],
)  # fmt: skip
def test_bodies_that_are_wrong(byte_tokenizer: Tokenizer, content: bytes) -> None:
    async def body(served: Served) -> None:
        for path in ("", "/check", "/plan"):
            answer = await served.client.post(
                f"/v1/programs{path}", content=content, headers={"Content-Type": "application/json"}
            )
            if path == "/check" and answer.status_code == 200:
                assert answer.json()["ok"] in (True, False)
                continue
            if path == "/plan" and answer.status_code == 200:
                continue  # it has no seed, and no batch
            error = answer.json()["error"]
            assert answer.status_code in (400, 413), (path, error)
            assert set(error) >= {"message", "type", "param", "code"}
            assert not INSIDES.search(answer.text), answer.text
        assert served.model.forwards == 0
        assert (await served.client.post("/v1/programs", json=GOOD)).status_code == 200

    serve(byte_tokenizer, body)


@pytest.mark.parametrize(
    "headers",
    [
        {"Idempotency-Key": ""},
        {"Content-Length": "-1"},
        {"Content-Length": "99999999999999999999"},
        {"Content-Length": "1e3"},
        {"Content-Type": "text/plain"},
    ],
)
def test_headers_that_are_wrong(byte_tokenizer: Tokenizer, headers: dict[str, str]) -> None:
    async def body(served: Served) -> None:
        answer = await served.client.post("/v1/programs", json=GOOD, headers=headers)
        assert 400 <= answer.status_code < 500, answer.text
        for last in ("-1", "x", "9" * 100, "1.5"):
            events = await served.client.get(
                "/v1/programs/prog_x/events", headers={"Last-Event-ID": last}
            )
            assert events.status_code in (400, 404)

    serve(byte_tokenizer, body)


def test_a_body_that_does_not_come(byte_tokenizer: Tokenizer) -> None:
    head = b"POST /v1/programs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    async def main() -> None:
        async with listening(byte_tokenizer, stall_s=0.3) as (served, _):
            url = served.client.base_url
            for begun in (b"", b"{"):
                reader, writer = await asyncio.open_connection(url.host, url.port)
                writer.write(head + b"Content-Length: 100\r\n\r\n" + begun)
                dripping = asyncio.create_task(_drip(writer))
                async with asyncio.timeout(5):
                    answer = await reader.readuntil(b"}}")
                    dripping.cancel()
                    with suppress(ConnectionError):  # a drop may have met a closed door
                        assert await reader.read() == b"", "the connection is closed"
                writer.close()
                assert answer.startswith(b"HTTP/1.1 408 "), answer
                assert b'"body_too_slow"' in answer
            run = await served.client.post("/v1/programs", json={**GOOD, "stream": True})
            assert "event: done" in run.text

    asyncio.run(main())


async def _drip(writer: asyncio.StreamWriter) -> None:
    for _ in range(50):
        await asyncio.sleep(0.1)
        writer.write(b" ")


def test_answers_that_nobody_reads(byte_tokenizer: Tokenizer) -> None:
    async def main() -> None:
        async with listening(byte_tokenizer, stall_s=0.3) as (served, listener):
            url = served.client.base_url
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                deaf.setblocking(False)
                await asyncio.get_running_loop().sock_connect(deaf, (url.host, url.port))
                deaf.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
                connections = listener.server_state.connections
                for _ in range(20):
                    await asyncio.sleep(0.01)
                assert connections
                for _ in range(300):
                    if not connections:
                        break
                    await asyncio.sleep(0.01)
                assert not connections
            assert (await served.client.get("/health")).status_code == 200

    asyncio.run(main())


def test_halves_of_characters_are_no_failure(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        for more in ({}, {"stream": True}):
            content = json.dumps({**GOOD, **more, "arguments": {"a": "\ud800"}})
            headers = {"Content-Type": "application/json", "Idempotency-Key": f"k{len(more)}"}
            answer = await served.client.post("/v1/programs", content=content, headers=headers)
            assert answer.status_code in (200, 400)
            assert "internal_error" not in answer.text

    serve(byte_tokenizer, body)


def test_logs_carry_no_prompt_and_no_key(
    byte_tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "a very private matter"

    async def body(served: Served) -> None:
        def broken(*args: Any) -> Any:
            raise RuntimeError(secret)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(served.app.state.server.jobs, "start", broken)
            answer = await served.client.post(
                "/v1/programs", json={**GOOD, "arguments": {"a": secret}}
            )
        assert answer.status_code == 500
        assert secret not in answer.text
        failed = [r.getMessage() for r in caplog.records if "failed" in r.getMessage()]
        assert len(failed) == 1
        assert answer.headers["x-request-id"] in failed[0]
        assert "RuntimeError at " in failed[0]
        await served.client.post("/v1/programs", json={**GOOD, "arguments": {"a": secret}})
        assert secret not in caplog.text
        assert "hush-hush" not in caplog.text

    with caplog.at_level(logging.DEBUG, "ramet"):
        serve(byte_tokenizer, body, keys={"hush-hush": "me"}, key="hush-hush")


@pytest.mark.slow
def test_a_thousand_disconnects_leave_nothing(byte_tokenizer: Tokenizer) -> None:
    source = """\
program deep(text: str):
    "{text}"
    fork i in range(3) as ways:
        "{i}"
        gen each(max_tokens=12, ignore_eos=true)
    select mood from [" good", " bad"]
    gen card: regex(r"[a-f]{10,20}") (max_tokens=40)
    keep ways[0]
    gen end(max_tokens=30, ignore_eos=true)
"""

    async def body(served: Served) -> None:
        before = len(asyncio.all_tasks())
        gate = asyncio.Semaphore(32)

        async def leave(number: int) -> None:
            order = {"source": source, "arguments": {"text": f"{number} " * 50}}
            async with gate:
                try:
                    async with asyncio.timeout(0.0007 * (number % 500)):
                        await served.client.post(
                            "/v1/programs", json={**order, "stream": bool(number % 2)}
                        )
                except TimeoutError:
                    pass

        await asyncio.gather(*map(leave, range(1_000)))
        assert await served.all_back()
        turns = served.app.state.server.runs.turns
        assert (turns.running, turns.waiting) == (0, 0)
        for _ in range(100):
            if len(asyncio.all_tasks()) <= before:
                break
            await asyncio.sleep(0.01)
        assert len(asyncio.all_tasks()) <= before

    serve(byte_tokenizer, body, running=8, tenant=100)

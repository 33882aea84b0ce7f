"""The door: how a request is asked for, whatever its headers and its path; what the answers say."""

import asyncio
import gzip
import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from ramet.runtime.server import auth
from ramet.runtime.server.auth import Keys
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, listening, serve

KEYS = {"a-key": "alice", "b-key": "bob"}
SOURCE = 'program p(t: str = "x"):\n    "{t}"\n    gen a(max_tokens=2)\n'
MARK = "hush-a-private-matter"


def request(first: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([first, *headers, b"", body])


async def answer_to(served: Served, sent: bytes, seconds: float = 5.0) -> bytes:
    """What comes back: the head of an answer at least, or nothing if the server closes."""
    url = served.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(sent)
    found = b""
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(seconds):
            while b"\r\n\r\n" not in found and (more := await reader.read(65_536)):
                found += more
    writer.close()
    return found


HOST, KEY = b"Host: localhost", b"Authorization: Bearer a-key"


AROUND = [
    request(b"GET //v1/cache HTTP/1.1", HOST),
    request(b"GET /V1/cache HTTP/1.1", HOST),
    request(b"GET /health/../v1/cache HTTP/1.1", HOST),
    request(b"GET /health%2f..%2fv1/cache HTTP/1.1", HOST),
    request(b"GET /%76%31/cache HTTP/1.1", HOST),
    request(b"GET /health;/v1/cache HTTP/1.1", HOST),
    request(b"GET /health%00 HTTP/1.1", HOST),
    request(b"GET http://localhost/health HTTP/1.1", HOST),
    request(b"GET http://localhost/v1/cache HTTP/1.1", HOST),
    request(b"GET /v1/cache HTTP/1.1", b"Host: a/health?"),
    request(b"GET /v1/cache HTTP/1.0"),
    request(b"OPTIONS * HTTP/1.1", HOST),
    request(b"OPTIONS /v1/cache HTTP/1.1", HOST, b"Access-Control-Request-Method: GET"),
    request(b"TRACE /v1/cache HTTP/1.1", HOST),
    request(b"CONNECT localhost:80 HTTP/1.1", HOST),
    request(b"get /v1/cache HTTP/1.1", HOST),
    request(b"HEAD /v1/cache HTTP/1.1", HOST),
    request(b"GET /v1/cache HTTP/1.1", HOST, KEY, KEY),
    request(b"GET /v1/cache HTTP/1.1", HOST, KEY, b"Authorization: Bearer b-key"),
    request(b"GET /v1/cache HTTP/1.1", HOST, b"Authorization: Bearer"),
    request(b"GET /v1/cache HTTP/1.1", HOST, b"Authorization: Bearer \xc3\xa4"),
    request(b"GET /v1/cache HTTP/1.1", HOST, b"Authorization: Bearer a-key, Bearer b-key"),
    request(b"GET /v1/cache HTTP/1.1", HOST, b"X-Forwarded-For: 127.0.0.1"),
    request(b"GET /v1/cache?key=a-key HTTP/1.1", HOST, b"Cookie: key=a-key"),
    request(b"GET /v1/cache HTTP/1.1", HOST, b"X-Original-URL: /health"),
    request(b"GET /v1/cache HTTP/1.1", HOST, b"Upgrade: websocket", b"Connection: Upgrade"),
]


def test_no_way_around_the_key(byte_tokenizer: Tokenizer) -> None:
    async def main() -> None:
        async with listening(byte_tokenizer, keys=KEYS) as (served, _):
            for sent in AROUND:
                found = await answer_to(served, sent)
                assert re.match(rb"HTTP/1.1 401 ", found), (sent, found[:300])
                assert b"spans" not in found
            assert (await served.client.get("/health")).status_code == 200

    asyncio.run(main())


NO_HTTP = [
    request(b"GET /v1/cache HTTP/1.1", KEY),
    request(b"GET /v1/cache HTTP/1.1", HOST, HOST, KEY),
    request(b"GET /v1/cache HTTP/1.1", HOST, KEY, b"X-Long: " + b"a" * 1_000_000),
    request(b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1", HOST, KEY),
    request(b"GET /v1/cache HTTP/1.1", HOST, KEY, *[b"X-%d: y" % n for n in range(60_000)]),
    request(b"GET /v1/cache HTTP/1.1", HOST, KEY, b"X: a\x00b"),
    request(b"GET /v1/cache HTTP/1.1", HOST, KEY, b" folded: yes"),
    request(b"GET /v1/ca\xffche HTTP/1.1", HOST, KEY),
    request(b"POST /v1/programs HTTP/1.1", HOST, KEY, b"Content-Length: 1, 2", body=b"{}"),
    request(b"POST /v1/programs HTTP/1.1", HOST, KEY, b"Content-Length: 2",
            b"Content-Length: 3", body=b"{}"),
    request(b"POST /v1/programs HTTP/1.1", HOST, KEY, b"Transfer-Encoding: gzip", body=b"{}"),
    request(b"POST /v1/programs HTTP/1.1", HOST, KEY, b"Transfer-Encoding: chunked",
            body=b"zz\r\n"),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
    b"GET /\r\n\r\n",
]  # fmt: skip


def test_what_is_no_http_is_refused(byte_tokenizer: Tokenizer) -> None:
    async def main() -> None:
        async with listening(byte_tokenizer, keys=KEYS, stall_s=1.0) as (served, _):
            for sent in NO_HTTP:
                found = await answer_to(served, sent)
                assert re.match(rb"HTTP/1.1 4\d\d ", found), (sent[:99], found[:300])
            assert (await served.client.get("/health")).status_code == 200

    asyncio.run(main())


def test_a_head_that_does_not_come(byte_tokenizer: Tokenizer) -> None:
    """Whoever has no key holds no connection either."""

    async def main() -> None:
        async with listening(byte_tokenizer, keys=KEYS, stall_s=0.3) as (served, _):
            url = served.client.base_url
            first = request(b"GET /health HTTP/1.1", HOST)
            for begun in (b"", b"G", b"GET /health HTTP/1.1\r\nHost: x\r\n", first):
                reader, writer = await asyncio.open_connection(url.host, url.port)
                writer.write(begun)
                if begun == first:  # and then another request, whose head never ends
                    await reader.readuntil(b"}")
                dripping = asyncio.create_task(_drip(writer))
                async with asyncio.timeout(5):
                    with suppress(ConnectionError):
                        assert await reader.read() == b""
                dripping.cancel()
                writer.close()
            kept = await served.client.post("/v1/programs", json={}, headers={"X": "y"})
            assert kept.status_code == 401

    asyncio.run(main())


async def _drip(writer: asyncio.StreamWriter) -> None:
    for _ in range(100):
        await asyncio.sleep(0.05)
        writer.write(b"X-A: b\r\n")


def test_every_key_is_compared_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long for a wrong key as for a right one, by the same function."""
    keys = Keys({f"key-{n}": f"t{n}" for n in range(20)})
    compared: list[tuple[bytes, bytes]] = []
    real = auth.hmac.compare_digest

    def noted(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr(auth.hmac, "compare_digest", noted)
    for given in (b"key-0", b"key-19", b"key-1", b"k", b"", b"x" * 5_000):
        compared.clear()
        found = keys.tenant([b"Bearer " + given])
        assert (found is not None) == given.startswith(b"key-")
        assert len(compared) == 20
        assert {len(each) for pair in compared for each in pair} == {32}, "digests, not keys"


BODIES = [
    (gzip.compress(b'{"source": "' + b"a" * 9_000_000 + b'"}'), {"Content-Encoding": "gzip"}),
    (gzip.compress(json.dumps({"source": SOURCE}).encode()), {"Content-Encoding": "gzip"}),
    (json.dumps({"source": SOURCE}).encode(), {"Content-Type": "text/plain"}),
    (b"source=x", {"Content-Type": "application/x-www-form-urlencoded"}),
    (b'--a\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--a--\r\n',
     {"Content-Type": "multipart/form-data; boundary=a"}),
]  # fmt: skip
NAMES = ("a bomb", "packed", "called text", "a form", "a form of parts")


@pytest.mark.parametrize(("content", "headers"), BODIES, ids=NAMES)
def test_a_body_is_json_as_it_comes(
    byte_tokenizer: Tokenizer, content: bytes, headers: dict[str, str]
) -> None:
    """Nothing is unpacked, and no other form is read."""

    async def body(served: Served) -> None:
        headers_of = {"Content-Type": "application/json", **headers}
        answer = await served.client.post("/v1/programs", content=content, headers=headers_of)
        assert 400 <= answer.status_code < 500, answer.text
        assert served.model.forwards == 0

    serve(byte_tokenizer, body)


def test_ids_are_the_servers_and_cannot_be_guessed(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        seen: set[str] = set()
        for id in ("mine", "a\tb", "req_" + "0" * 24):
            headers = {"X-Request-ID": id, "X-Program-Id": id, "Idempotency-Key": id}
            sent = {"source": SOURCE, "stream": True}
            answer = await served.client.post("/v1/programs", json=sent, headers=headers)
            for name, prefix in (("x-request-id", "req_"), ("x-program-id", "prog_")):
                (found,) = answer.headers.get_list(name)
                assert re.fullmatch(prefix + "[0-9a-f]{24}", found)
                assert found not in seen
                seen.add(found)

    serve(byte_tokenizer, body)


def test_every_answer_has_its_headers(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        for path in ("/", "/page/page.js", "/v1/cache", "/metrics", "/nothing", "/health"):
            headers = (await served.client.get(path)).headers
            assert headers.get_list("x-content-type-options") == ["nosniff"]
            assert headers.get_list("cross-origin-resource-policy") == ["same-origin"]
            assert headers.get_list("cache-control") in (["no-store"], ["no-cache"])
            assert "access-control-allow-origin" not in headers
            assert "server" not in headers

    serve(byte_tokenizer, body)


def test_no_log_has_what_a_client_sent(
    byte_tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    mark = MARK.encode()
    sent = [
        request(b"GET /v1/" + mark + b"%0d%0aforged HTTP/1.1", HOST, b"User-Agent: " + mark),
        request(b"GET /v1/programs/" + mark + b" HTTP/1.1", HOST, KEY, b"Referer: " + mark),
        request(mark + b" /x HTTP/1.1", HOST, KEY),
        request(b"GET /" + mark + b"\xff HTTP/1.1", HOST, b"X: " + mark),
        request(b"GET /x HTTP/1.1", HOST, b"Upgrade: " + mark, b"Connection: Upgrade"),
        request(b"GET /x HTTP/1.1", HOST, b"Authorization: Bearer " + mark),
    ]

    async def main() -> None:
        async with listening(byte_tokenizer, keys=KEYS) as (served, _):
            for each in sent:
                await answer_to(served, each, seconds=1.0)
            for body in _bodies():
                first = b"POST %s HTTP/1.1" % str(body.pop("path")).encode()
                content = json.dumps(body).encode()
                length = b"Content-Length: %d" % len(content)
                kind = b"Content-Type: application/json"
                await answer_to(served, request(first, HOST, KEY, kind, length, body=content))

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    ours = [each for each in caplog.records if not each.name.startswith(("httpx", "httpcore"))]
    for record in ours:
        said = record.getMessage() + str(record.exc_info or "")
        assert MARK not in said
        assert "a-key" not in said
        assert "\r" not in said
        assert "\n" not in said


def _bodies() -> Iterator[dict[str, Any]]:
    yield {"path": "/v1/programs", "source": SOURCE, "arguments": {"t": MARK}}
    yield {"path": "/v1/programs", "source": f"program {MARK}", "arguments": {MARK: MARK}}
    yield {"path": "/v1/completions", "model": MARK, "prompt": MARK}
    yield {"path": "/v1/completions", "model": "default", "prompt": MARK, "user": MARK}
    yield {"path": "/v1/completions", "model": "default", "prompt": MARK, "regex": f"({MARK}"}
    yield {"path": "/v1/completions", "model": "default", "prompt": MARK, MARK: 1}
    yield {"path": "/generate", "text": MARK, "rid": MARK}
    yield {"path": "/tokenize", "prompt": MARK}
    yield {"path": "/v1/cache/pins", "prompt": MARK * 9, "seconds": 9}

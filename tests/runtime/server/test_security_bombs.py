"""Small requests that would be large work: each is refused, or bounded, and others go on."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import ramet
from ramet.runtime.tokenizer import Piece, Tokenizer
from tests.runtime.server.serving import Served, serve

JSON = {"Content-Type": "application/json"}
ROUTES = [
    "/v1/programs", "/v1/programs/check", "/v1/programs/plan", "/v1/completions",
    "/v1/chat/completions", "/generate", "/tokenize", "/detokenize", "/v1/cache/explain",
    "/v1/cache/pins", "/v1/cache/forget",
]  # fmt: skip
GEN = 'program p():\n    "x"\n    gen a(max_tokens=4, ignore_eos=true)\n'
LAG_S = 1.0
"""Most that the loop may stand still: tests run on machines that do other things, too."""


@pytest.fixture(scope="module", autouse=True)
def as_served() -> Iterator[None]:
    """As `ramet serve` does before it listens: what is there is not collected again and again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@asynccontextmanager
async def lively() -> AsyncGenerator[None, None]:
    """Inside, the event loop goes on."""
    worst, last = 0.0, time.perf_counter()

    async def tick() -> None:
        nonlocal worst, last
        while True:
            await asyncio.sleep(0.01)
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        await asyncio.sleep(0.02)
        ticking.cancel()
    assert worst < LAG_S, f"the event loop stood still for {worst:.1f} s"


async def sent(served: Served, path: str, content: Any, seconds: float = 20.0) -> Any:
    """The answer, which comes in that time while everything else goes on."""
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    assert len(content) <= 1 << 20, "it is a small request"
    async with lively(), asyncio.timeout(seconds):
        return await served.client.post(path, content=content, headers=JSON)


def nested(depth: int, inner: str = "1") -> bytes:
    return b"[" * depth + inner.encode() + b"]" * depth


WIDE = 1 << 20
BODIES: dict[str, bytes] = {
    "brackets": b"[" * (WIDE - 1),
    "braces": b'{"a":' * 100_000,
    "integer": b'{"seed": ' + b"9" * 500_000 + b"}",
    "exponent": b'{"temperature": 1e999999999}',
    "many names": b"{" + b",".join(b'"n%d":1' % n for n in range(80_000)) + b"}",
    "long name": b'{"' + b"n" * 900_000 + b'": 1}',
    "twice": b'{"prompt": "a", "prompt": {"prompt": "b"}}',
    "tokens": b'{"tokens": [' + b",".join([b'"a"'] * 200_000) + b"]}",
    "input_ids": b'{"input_ids": [' + b",".join([b'"a"'] * 200_000) + b"]}",
    "text": b'{"text": [' + b",".join([b"1"] * 400_000) + b"]}",
    "prompt": b'{"model": "m", "prompt": [' + b",".join([b"{}"] * 300_000) + b"]}",
    "prompt lists": b'{"model": "m", "prompt": [' + b",".join([b"[]"] * 300_000) + b"]}",
    "messages": b'{"model": "m", "messages": [' + b",".join([b"1"] * 400_000) + b"]}",
    "parts": b'{"model": "m", "messages": [{"role": "user", "content": ['
    + b",".join([b"1"] * 400_000)
    + b"]}]}",
    "bias": b'{"model": "m", "prompt": "a", "logit_bias": {'
    + b",".join(b'"%d": "x"' % n for n in range(70_000))
    + b"}}",
    "choice": b'{"model": "m", "prompt": "a", "choice": [' + b",".join([b"1"] * 400_000) + b"]}",
    "limits": b'{"source": "", "limits": {' + b",".join(b'"%d": ""' % n for n in range(70_000))
    + b"}}",
    "batch": b'{"source": "", "batch": [' + b",".join([b"1"] * 400_000) + b"]}",
    "schema": b'{"model": "m", "messages": [{"role": "user", "content": "a"}], "response_format": '
    b'{"type": "json_schema", "json_schema": {"schema": {"a": ' + nested(800) + b"}}}}",
}  # fmt: skip


@pytest.mark.parametrize("name", [*BODIES])
def test_no_body_holds_the_server_up(byte_tokenizer: Tokenizer, name: str) -> None:
    async def body(served: Served) -> None:
        for path in ROUTES:
            answer = await sent(served, path, BODIES[name])
            assert 400 <= answer.status_code < 500, (path, answer.status_code)
            assert len(answer.content) < 20_000, path
        assert served.model.forwards == 0

    serve(byte_tokenizer, body)


@pytest.mark.parametrize("depth", [40, 100, 300, 600, 800, 900, 940, 970, 990])
def test_no_depth_is_a_failure_of_the_server(byte_tokenizer: Tokenizer, depth: int) -> None:
    """Wherever the recursion of a reader ends, it ends in an answer."""
    deep = nested(depth).decode()
    hello = '"model": "default", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1'
    schema = f'{{"type": "json_schema", "json_schema": {{"schema": {{"a": {deep}}}}}}}'
    bodies = [
        ("/v1/programs", f'{{"graph": {{"version": 1, "name": "p", "nodes": {deep}}}}}'),
        ("/v1/programs", f'{{"graph": {{"version": 1, "name": "p", "nodes": [], "a": {deep}}}}}'),
        ("/v1/programs", f'{{"source": "x", "arguments": {{"a": {deep}}}}}'),
        ("/v1/programs", f'{{"source": "x", "batch": [{{"a": {deep}}}]}}'),
        ("/v1/programs/plan", f'{{"source": "x", "arguments": {{"a": {deep}}}}}'),
        ("/v1/chat/completions", f'{{{hello}, "response_format": {schema}}}'),
        ("/v1/chat/completions", f'{{{hello}, "tools": {deep}}}'),
        ("/v1/chat/completions", f'{{{hello}, "stop": {deep}}}'),
        ("/v1/completions", f'{{"model": "default", "prompt": {deep}}}'),
        ("/generate", f'{{"text": "a", "image_data": {deep}}}'),
        ("/generate", f'{{"text": "a", "sampling_params": {{"json_schema": "{deep}"}}}}'),
    ]

    async def body(served: Served) -> None:
        for key in ({}, {"Idempotency-Key": f"k{depth}"}):
            for path, content in bodies:
                headers = {**JSON, **key}
                answer = await served.client.post(path, content=content, headers=headers)
                assert answer.status_code < 500, (path, content[:80], answer.text)

    serve(byte_tokenizer, body)


# -- patterns

HALVES = "(?:|)" * 40
PATTERNS = [
    HALVES + "(?!)", HALVES + "x", HALVES + r"(?=\d)", "(?:|a|){60}(?!)", r"(?:\b|\B|){50}(?!)",
    "(?:(?:|){60000}){60000}(?!)", "(?i)" + r"[\x00-\uffff]" * 290, "(" * 1_300 + ")" * 1_300,
    "((a{999}){999}){999}", "a{99999999999999999999}", "(?P<a>" * 500, "[" * 4_000,
    "(a+)+b" * 600, "(?<=" + HALVES + "x)y",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@pytest.mark.parametrize("pattern", PATTERNS, ids=range(len(PATTERNS)))
def test_no_stop_pattern_holds_the_server_up(byte_tokenizer: Tokenizer, pattern: str) -> None:
    """A search without a time limit would hold up every thread of it."""
    source = f"program p():\n    'x'\n    gen a(max_tokens=9, stop_regex={json.dumps(pattern)})\n"
    graph = json.loads(ramet.to_json(ramet.loads(GEN).compile().graph))
    graph["nodes"][2]["params"] = {"max_tokens": 9, "stop_regex": pattern}
    own = {"model": "default", "max_tokens": 9, "stop_regex": pattern}
    bodies: list[tuple[str, Any]] = [
        ("/v1/completions", {**own, "prompt": "aaaa"}),
        ("/v1/chat/completions", {**own, "messages": [{"role": "user", "content": "a"}]}),
        ("/generate", {"text": "a", "sampling_params": {"stop_regex": pattern}}),
        ("/v1/programs", {"source": source}),
        ("/v1/programs", {"graph": graph}),
        ("/v1/programs/plan", {"graph": graph}),
    ]

    async def body(served: Served) -> None:
        for path, sending in bodies:
            answer = await sent(served, path, sending)
            assert answer.status_code in (200, 400, 422), (path, answer.text)

    serve(byte_tokenizer, body)


def test_many_slow_patterns_leave_the_engine_to_others(byte_tokenizer: Tokenizer) -> None:
    """Each of them may take a second; all of them together do not take one each."""
    pattern = r"(?:I|I|II)+(?:I|I|II)+$(?<!I)x"
    letter = byte_tokenizer.encode([Piece("I")], start=False)

    async def body(served: Served) -> None:
        own = {"model": "default", "max_tokens": 60, "ignore_eos": True}
        hostile = {**own, "stop_regex": pattern, "allowed_token_ids": letter}
        begun = time.perf_counter()
        attacks = [
            served.client.post("/v1/completions", json={**hostile, "prompt": f"{n}"})
            for n in range(40)
        ]
        answers = await asyncio.gather(*attacks)
        assert {each.status_code for each in answers} == {422}, answers[0].text
        assert "takes too long" in answers[0].text
        assert time.perf_counter() - begun < 15
        answer = await served.client.post("/v1/completions", json={**own, "prompt": "b"})
        assert answer.status_code == 200

    serve(byte_tokenizer, body)

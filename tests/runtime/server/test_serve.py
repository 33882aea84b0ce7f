"""Over a loopback socket: a server listens, drains, is left, and ends."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import typer

from ramet.runtime.cli import serving
from ramet.runtime.cli.serving import keys_of
from ramet.runtime.server import ServerConfig
from ramet.runtime.server.serve import Listener
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.cli import ramet
from tests.runtime.server.serving import Served, listening

SOURCE = 'program long(n: int):\n    "on"\n    gen text(max_tokens=n, ignore_eos=true)\n'
SERVER = """
from tests.runtime.server.serving import toy_server
toy_server()
"""
Events = AsyncIterator[tuple[str, dict[str, Any]]]


def long(tokens: int, **more: Any) -> dict[str, Any]:
    return {"source": SOURCE, "arguments": {"n": tokens}, "stream": True, **more}


async def events(lines: AsyncIterator[str]) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    name = ""
    async for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


@asynccontextmanager
async def streaming(client: httpx2.AsyncClient, **body: Any) -> AsyncIterator[Any]:
    """The answer, and its events; text has come already."""
    async with client.stream("POST", "/v1/programs", json=long(**body)) as answer:
        told = events(answer.aiter_lines())
        async for name, _ in told:
            if name == "text":
                break
        yield answer, told


Body = Callable[[Served, Listener], Awaitable[None]]


def over_sockets(tokenizer: Tokenizer, body: Body, **config: Any) -> None:
    async def main() -> None:
        async with listening(tokenizer, **config) as (served, listener):
            await body(served, listener)

    asyncio.run(main())


def test_a_server_that_drains_lets_runs_end_and_takes_no_more(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, listener: Listener) -> None:
        client = served.client
        async with streaming(client, tokens=200) as (answer, told):
            listener.stop()
            await asyncio.sleep(0)
            assert (await client.get("/ready")).status_code == 503
            assert (await client.get("/health")).status_code == 200
            refused = await client.post("/v1/programs", json=long(1))
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "draining"
            assert int(refused.headers["retry-after"]) >= 1
            rest = [each async for each in told]
        assert rest[-1] == ("done", {"id": answer.headers["x-program-id"], "status": "done"})

    over_sockets(byte_tokenizer, body)


def test_at_the_deadline_streams_are_told(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, listener: Listener) -> None:
        async with streaming(served.client, tokens=4000) as (_, told):
            listener.stop()
            rest = [each async for each in told]
        assert [name for name, _ in rest[-2:]] == ["error", "done"]
        assert rest[-2][1]["error"]["code"] == "draining"

    over_sockets(byte_tokenizer, body, drain_s=0.1)


def test_a_second_signal_ends_at_once(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, listener: Listener) -> None:
        async with streaming(served.client, tokens=4000):
            listener.stop()
            listener.stop()

    over_sockets(byte_tokenizer, body)


def test_who_leaves_a_stream_cancels_it(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, listener: Listener) -> None:
        async with streaming(served.client, tokens=4000) as (answer, _):
            id = answer.headers["x-program-id"]
        assert await served.all_back()
        assert (await served.client.get(f"/v1/programs/{id}")).json()["status"] == "cancelled"

    over_sockets(byte_tokenizer, body)


def test_who_leaves_an_answer_cancels_it(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, listener: Listener) -> None:
        with pytest.raises(httpx2.TimeoutException):
            await served.client.post("/v1/programs", json=long(4000, stream=False), timeout=0.3)
        assert await served.all_back()

    over_sockets(byte_tokenizer, body)


def test_a_background_run_goes_on_and_is_followed_again(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served, listener: Listener) -> None:
        client = served.client
        last = 0
        async with client.stream("POST", "/v1/programs", json=long(100, background=True)) as answer:
            async for line in answer.aiter_lines():
                last = int(line.removeprefix("id: ")) if line.startswith("id: ") else last
                if last == 8:
                    break
        id = answer.headers["x-program-id"]
        headers = {"Last-Event-ID": str(last)}
        async with client.stream("GET", f"/v1/programs/{id}/events", headers=headers) as rest:
            ids = [int(line[4:]) async for line in rest.aiter_lines() if line.startswith("id: ")]
        assert ids == [*range(9, 9 + len(ids))]
        assert (await client.get(f"/v1/programs/{id}")).json()["status"] == "done"

    over_sockets(byte_tokenizer, body)


def test_disconnects_in_every_phase_leave_nothing(byte_tokenizer: Tokenizer) -> None:
    source = """\
program deep(text: str):
    "{text}"
    fork i in range(3) as ways:
        "{i}"
        gen each(max_tokens=30, ignore_eos=true)
    select mood from [" good", " bad"]
    gen card: regex(r"[a-f]{20,30}") (max_tokens=40)
    keep ways[0]
    gen end(max_tokens=400, ignore_eos=true)
"""

    async def body(served: Served, listener: Listener) -> None:
        async def leave(after: float, stream: bool) -> None:
            order = {"source": source, "arguments": {"text": "x" * 600}, "stream": stream}
            try:
                async with asyncio.timeout(after):
                    await served.client.post("/v1/programs", json=order)
            except TimeoutError:
                pass

        tries = [(0.002 * step, bool(step % 2)) for step in range(1, 41)]
        await asyncio.gather(*(leave(after, stream) for after, stream in tries))
        assert await served.all_back()

    over_sockets(byte_tokenizer, body, running=6)


def test_sigterm_ends_a_process_well() -> None:
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx2.Client(base_url=url, timeout=60) as client:
            with client.stream("POST", "/v1/programs", json=long(150)) as live:
                lines = live.iter_lines()
                assert next(line for line in lines if line == "event: text")
                process.send_signal(signal.SIGTERM)
                rest = [*lines]
            assert "event: result" in rest
            assert any('"status":"done"' in line for line in rest[-2:])
        assert process.wait(25) == 0  # before the 30 seconds that it may drain
    finally:
        process.kill()
        process.communicate()


def test_keys_are_read(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# who\nalice a-key\n\nbob b-key\nalice other\n")
    assert keys_of(str(file), None) == {"a-key": "alice", "b-key": "bob", "other": "alice"}
    assert keys_of(None, "alice a, bob b") == {"a": "alice", "b": "bob"}
    for wrong in ("alice", "alice a b", "alice a, bob a"):
        with pytest.raises(typer.BadParameter):
            keys_of(None, wrong)


def test_who_gives_keys_gets_no_open_server(tmp_path: Path) -> None:
    assert keys_of(None, None) == {}
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("# later\n")
    binary.write_bytes(b"\xff\xfe\x00")
    for text in ("", " ", ",\n"):
        with pytest.raises(typer.BadParameter, match="RAMET_KEYS: there is no key in it"):
            keys_of(None, text)
    with pytest.raises(typer.BadParameter, match="there is no key in it"):
        keys_of(str(empty), None)
    for file in (binary, tmp_path, tmp_path / "none"):
        with pytest.raises(typer.BadParameter, match="cannot be read"):
            keys_of(str(file), None)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], "needs a key"),
        (["--limit", "tokenz=1"], "did you mean 'tokens'"),
        (["--limit", "queue=many"], "queue must be a number"),
        (["--limit", "n=0"], "n: 0 is out of range"),
        (["--limit", "tokens"], "not of the form name=value"),
    ],
)
def test_mistakes_are_told_before_the_model_is_loaded(words: list[str], says: str) -> None:
    result = ramet("serve", "--model", "/nowhere", *words)
    assert result.exit_code == 2
    assert says in " ".join(result.output.replace("│", " ").split())


def test_limits_reach_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[ServerConfig] = []
    monkeypatch.setattr(serving, "Engine", lambda *words, **more: SimpleNamespace(close=lambda: 0))
    monkeypatch.setattr(serving, "serve", lambda engine, config, told: seen.append(config))
    (tmp_path / "keys").write_text("alice a-key\n")
    words = ["--host", "0.0.0.0", "--keys", str(tmp_path / "keys"), "--drain", "3", "--name", "m"]
    result = ramet("serve", *words, "--limit", "tokens=9", "--limit", "queue=7")
    assert result.exit_code == 0, result.output
    (config,) = seen
    assert (config.program.tokens, config.queue, config.drain_s) == (9, 7, 3.0)
    assert config.program.steps == ServerConfig().program.steps
    assert (config.host, config.model, config.keys) == ("0.0.0.0", "m", {"a-key": "alice"})
    assert gc.get_freeze_count() > 0
    gc.unfreeze()

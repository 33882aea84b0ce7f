"""SIGTERM while sixteen clients are there: each answer is whole or says that the server ends,
nobody meets a closed door before, and the process is gone in time with all that it started."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest

CLIENTS = 16
GRACE_S = 5.0  # that a process gets to end, besides its drain
ROOT = Path(__file__).parents[3]

# Importing takes seconds: it is done once, and each server is a fork of that. A fork whose threads
# are over says so before its interpreter takes itself apart, which copies all that it shares.
FORKS = """
import gc, json, os, sys, threading
from tests.runtime.server.serving import toy_server
gc.freeze()
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.setsid()
        print(os.getpid(), flush=True)
        toy_server(**json.loads(line))
        for each in threading.enumerate():
            if each is not threading.main_thread() and not each.daemon:
                each.join()
        print("over", flush=True)
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    print("exit", os.waitstatus_to_exitcode(status), flush=True)
"""
LONG = 'program long(n: int):\n    "on"\n    gen text(max_tokens=n, ignore_eos=true)\n'
BRANCHES = """\
program branches(n: int):
    "on"
    fork i in range(3) as ways:
        "{i}"
        gen text(max_tokens=n, ignore_eos=true)
    select mood from [" good", " bad"]
"""
HARD = {"allOf": [{"type": "integer", "minimum": 1}, {"type": "integer", "multipleOf": 7}]}
"""A schema that a process of its own tries out first."""

Outcome = Literal["whole", "told", "refused", "unreachable"]


@dataclass(frozen=True)
class Ended:
    """One request: how it ended, and when, by the clock of this process."""

    kind: str
    outcome: Outcome
    began: float
    ended: float


@dataclass(frozen=True)
class Server:
    """A process that serves."""

    process: subprocess.Popen[str]
    pid: int
    url: str

    def over(self) -> float:
        """When it was over, by the clock here; it is gone then, and said that all was well."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "over\n"
        at = time.monotonic()
        assert self.process.stdout.readline() == "exit 0\n"
        return at

    def anything_left(self) -> bool:
        """Whether a process that it started is still there."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture(scope="module")
def forks() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    ) as process:
        yield process
        process.kill()


@contextmanager
def server(forks: subprocess.Popen[str], **config: Any) -> Iterator[Server]:
    assert forks.stdin is not None
    assert forks.stdout is not None
    forks.stdin.write(json.dumps(config) + "\n")
    forks.stdin.flush()
    lines = (line.strip() for line in forks.stdout)
    pid = int(next(line for line in lines if line.isdecimal()))
    try:
        yield Server(forks, pid, next(lines))
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        raise


@dataclass
class Client:
    """Sends one request after the other until nobody is there."""

    http: httpx2.AsyncClient
    dice: random.Random
    answered: asyncio.Event  # set with the first answer
    ended: list[Ended] = field(default_factory=list)

    async def run(self) -> None:
        while not self.ended or self.ended[-1].outcome != "unreachable":
            kind = self.dice.choice([*KINDS])
            began = time.monotonic()
            outcome = await self.ask(kind)
            self.ended.append(Ended(kind, outcome, began, time.monotonic()))
            self.answered.set()
            if outcome in ("refused", "told"):
                await asyncio.sleep(0.02)

    async def ask(self, kind: str) -> Outcome:
        path, body = KINDS[kind](self.dice)
        begun = False
        try:
            async with self.http.stream("POST", path, json=body) as answer:
                begun = True
                if not answer.headers["content-type"].startswith("text/event-stream"):
                    return whole(answer.status_code, await answer.aread())
                return await followed(path, answer.aiter_lines())
        except (httpx2.NetworkError, httpx2.RemoteProtocolError):
            if begun:  # an answer that is cut
                raise
            return "unreachable"


def whole(status: int, content: bytes) -> Outcome:
    """An answer in one piece, which says what is so."""
    body = json.loads(content)
    if status in (200, 202):
        assert {"id", "meta_info"} & body.keys(), body
        return "whole"
    assert (status, body["error"]["code"]) == (503, "draining"), body
    return "refused"


async def followed(path: str, lines: AsyncIterator[str]) -> Outcome:
    """A stream up to its end."""
    told: list[str] = [line async for line in lines if line.startswith(("data: ", "event: "))]
    failed = any('"error":{' in line for line in told)
    if path.startswith("/v1/programs"):
        assert told[-2] == "event: done", told[-2:]
        assert failed or any(line == "event: result" for line in told)
    else:
        assert told[-1] == "data: [DONE]", told[-1]
        assert failed or len(told) > 1
    if failed:
        assert any('"code":"draining"' in line for line in told), told[-4:]
    return "told" if failed else "whole"


def tokens(dice: random.Random) -> int:
    return dice.choice([3, 30, 100, 1_200])


def programs(source: str, **more: Any) -> Any:
    return lambda dice: (
        "/v1/programs",
        {"source": source, "arguments": {"n": tokens(dice)}, **more},
    )


def completions(path: str = "/v1/completions", **more: Any) -> Any:
    return lambda dice: (
        path,
        {"model": "default", "max_tokens": tokens(dice), "ignore_eos": True, **more},
    )


def generate(stream: bool) -> Any:
    return lambda dice: (
        "/generate",
        {
            "text": "on",
            "sampling_params": {"max_new_tokens": tokens(dice), "ignore_eos": True},
            "stream": stream,
        },
    )


def hard(dice: random.Random) -> tuple[str, dict[str, Any]]:
    schema = {**HARD, "description": str(dice.random())}
    format = {"type": "json_schema", "json_schema": {"schema": schema}}
    body = {"model": "default", "messages": CHAT, "max_tokens": 40, "response_format": format}
    return "/v1/chat/completions", {**body, "stream": dice.random() < 0.5}


CHAT = [{"role": "user", "content": "on"}]
KINDS: dict[str, Any] = {
    "program": programs(LONG),
    "program, streamed": programs(LONG, stream=True),
    "branches": programs(BRANCHES),
    "branches, streamed": programs(BRANCHES, stream=True),
    "in the background, streamed": programs(LONG, stream=True, background=True),
    "completion": completions(prompt="on"),
    "completion, streamed": completions(prompt="on", n=2, stream=True),
    "chat": completions("/v1/chat/completions", messages=CHAT),
    "chat, streamed": completions("/v1/chat/completions", messages=CHAT, stream=True),
    "generate": generate(stream=False),
    "generate, streamed": generate(stream=True),
    "a hard type": hard,
}


async def load(
    there: Server, dice: random.Random, *, again_after: float | None = None
) -> tuple[float, list[Ended]]:
    """When SIGTERM was sent to a server under load, and what became of all requests. A second one
    may cut answers."""
    limits = httpx2.Limits(max_connections=2 * CLIENTS)
    async with httpx2.AsyncClient(base_url=there.url, timeout=30, limits=limits) as http:
        answered = asyncio.Event()
        clients = [Client(http, random.Random(dice.random()), answered) for _ in range(CLIENTS)]
        running = [asyncio.create_task(client.run()) for client in clients]
        if dice.random() < 0.9:
            async with asyncio.timeout(20):
                await answered.wait()
        await asyncio.sleep(0.5 * dice.random())
        sent = time.monotonic()
        os.kill(there.pid, signal.SIGTERM)
        if again_after is not None:
            await asyncio.sleep(again_after)
            os.kill(there.pid, signal.SIGTERM)
        async with asyncio.timeout(30):
            await asyncio.gather(*running, return_exceptions=again_after is not None)
    return sent, [each for client in clients for each in client.ended]


def stop_under_load(forks: subprocess.Popen[str], seed: int) -> Counter[str]:
    """One run; how requests ended from the signal on."""
    dice = random.Random(seed)
    drain_s = dice.choice([0.3, 1.0, 2.0])
    with server(forks, drain_s=drain_s, running=dice.choice([4, 64])) as there:
        sent, all_ended = asyncio.run(load(there, dice))
        took = there.over() - sent
        assert took < drain_s + GRACE_S, took
        assert not there.anything_left()
    later = [each for each in all_ended if each.ended > sent]
    assert not [each for each in later if each.began > sent + 0.3 and each.outcome == "whole"]
    answered = [each.ended for each in all_ended if each.outcome in ("whole", "told")]
    drained = min(max(answered, default=sent), sent + drain_s)
    early = [
        each for each in all_ended if each.outcome == "unreachable" and each.ended < drained - 0.25
    ]
    assert not early, (drained - sent, early)
    return Counter(each.outcome for each in later)


def test_sigterm_under_load(forks: subprocess.Popen[str]) -> None:
    outcomes = sum((stop_under_load(forks, seed) for seed in range(3)), Counter[str]())
    assert outcomes["unreachable"] == 3 * CLIENTS
    assert outcomes["whole"]
    assert outcomes["told"]
    assert outcomes["refused"]


@pytest.mark.slow
def test_sigterm_under_load_a_hundred_times(forks: subprocess.Popen[str]) -> None:
    outcomes = sum((stop_under_load(forks, seed) for seed in range(100, 200)), Counter[str]())
    print(outcomes)
    assert outcomes["unreachable"] == 100 * CLIENTS


def test_a_second_sigterm_ends_at_once(forks: subprocess.Popen[str]) -> None:
    dice = random.Random(5)
    with server(forks, drain_s=60.0) as there:
        sent, _ = asyncio.run(load(there, dice, again_after=0.1))
        assert there.over() - sent < 10
        assert not there.anything_left()

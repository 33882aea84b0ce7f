"""Clients that leave in every phase of a request, over TCP, by FIN and by RST, through every
middleware: within a second all they had is back, and the tables of the server are as they were."""

import asyncio
import gc
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from ramet.runtime.grammar.compiler import GrammarCompiler
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.context import Server
from ramet.runtime.server.openai import prompts
from ramet.runtime.server.serve import Listener
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, listening

KEY = "a-key"
AT_MOST_S = 2.0  # that a phase is held up for its client to leave
RST = struct.pack("ii", 1, 0)  # SO_LINGER that way: close() sends it

Ask = Callable[[int], tuple[str, dict[str, Any]]]
"""The path and the body of the request of that number; no two begin with the same text."""


def program(lines: str) -> Ask:
    def ask(number: int) -> tuple[str, dict[str, Any]]:
        source = f'program p(text: str):\n    "{{text}}"\n{lines}'.replace("NUMBER", str(number))
        return "/v1/programs", {"source": source, "arguments": {"text": f"{number} " * 150}}

    return ask


def completion(**more: Any) -> Ask:
    def ask(number: int) -> tuple[str, dict[str, Any]]:
        typed = {"regex": more["regex"].replace("NUMBER", str(number))} if "regex" in more else {}
        body = {"model": "toy", "prompt": f"{number} " * 150, "max_tokens": 300, **more, **typed}
        return "/v1/completions", {**body, "ignore_eos": "beams" not in more}

    return ask


def chat(number: int) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": f"{number} " * 150}]
    body = {"model": "toy", "messages": messages, "max_tokens": 300, "ignore_eos": True}
    return "/v1/chat/completions", body


def generate(number: int) -> tuple[str, dict[str, Any]]:
    params = {"max_new_tokens": 300, "ignore_eos": True}
    return "/generate", {"text": f"{number} " * 150, "sampling_params": params}


LONG = program("    gen a(max_tokens=300, ignore_eos=true)\n")
FORK = program(
    "    fork i in range(3) as ways:\n"
    '        "{i}"\n'
    "        gen each(max_tokens=100, ignore_eos=true)\n"
)
SELECT = program('    select mood from [" good", " bad", " neither of them"]\n')
TYPED = program('    gen a: regex(r"NUMBER[a-f]{20,50}") (max_tokens=60)\n')
EVERYWHERE = [LONG, completion(), chat, generate]
PHASES: dict[str, list[Ask]] = {
    "queued": EVERYWHERE,
    "tokenizing": EVERYWHERE,
    "grammar": [TYPED, completion(regex="NUMBER[a-f]{20,50}")],
    "prefill": EVERYWHERE,
    "decode": EVERYWHERE,
    "fork": [FORK, completion(n=3)],
    "beams": [completion(beams=4)],
    "select": [SELECT],
    "between events": EVERYWHERE,
}


class Gate:
    """Says when a request comes to a phase, and holds it up there until its client has left."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._phase = ""
        self.reached = asyncio.Event()
        self.left = threading.Event()

    def expect(self, phase: str) -> None:
        self._phase = phase
        self.reached.clear()
        self.left.clear()

    def at(self, phase: str) -> None:
        """Called by whoever is in that phase, on a thread that is not the loop's."""
        if phase == self._phase:
            self._phase = ""
            self._loop.call_soon_threadsafe(self.reached.set)
            self.left.wait(AT_MOST_S)


def watched(gate: Gate, served: Served, patch: pytest.MonkeyPatch) -> None:
    """Have the phases told to the gate."""
    compiled, forward = GrammarCompiler._compiled, served.model.forward

    def encoding(encode: Callable[..., Any]) -> Callable[..., Any]:
        def encoded(*args: Any, **more: Any) -> Any:
            gate.at("tokenizing")
            return encode(*args, **more)

        return encoded

    def compiling(*args: Any) -> Any:
        gate.at("grammar")
        return compiled(*args)

    def forwarding(tokens: Any, positions: Any, attention: Any, rows: Any) -> Any:
        step = attention.plan.step
        texts = len(step.contexts)
        gate.at("select")
        gate.at("prefill" if len(tokens) > texts else "decode")
        if texts >= 3:
            gate.at("fork")
            gate.at("beams")
        logits = forward(tokens, positions, attention, rows)
        if len(tokens) == texts:
            gate.at("between events")
        return logits

    patch.setattr(prompts, "_SHORT", 8)  # so that no text is encoded on the loop's thread
    for owner, name in (
        (Tokenizer, "encode"),
        (prompts.Prompts, "whole"),
        (prompts.Prompts, "chat"),
    ):
        patch.setattr(owner, name, encoding(getattr(owner, name)))
    patch.setattr(GrammarCompiler, "_compiled", compiling)
    patch.setattr(served.model, "forward", forwarding)


@dataclass(frozen=True)
class Door:
    """A server, and clients that come and leave."""

    served: Served
    listener: Listener
    gate: Gate
    tasks: int  # of the loop, when nobody is there

    @property
    def server(self) -> Server:
        return self.served.app.state.server

    async def come(self, ask: tuple[str, dict[str, Any]]) -> socket.socket:
        """Send a request, and be connected."""
        path, body = ask
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        loop, url = asyncio.get_running_loop(), self.served.client.base_url
        connection = socket.socket()
        connection.setblocking(False)
        await loop.sock_connect(connection, (url.host, url.port))
        await loop.sock_sendall(connection, head.encode() + data)
        return connection

    async def leave(self, connection: socket.socket, *, rst: bool) -> None:
        """Close it; after a FIN the server closes it, too."""
        loop = asyncio.get_running_loop()
        if rst:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        else:
            with suppress(OSError):  # the server was sooner
                connection.shutdown(socket.SHUT_WR)
        self.gate.left.set()
        with connection, suppress(ConnectionError):
            async with asyncio.timeout(10):
                while not rst and await loop.sock_recv(connection, 1 << 16):
                    pass

    async def until(self, event: bytes, connection: socket.socket) -> None:
        """Read up to an event."""
        told = b""
        async with asyncio.timeout(10):
            while event not in told:
                part = await asyncio.get_running_loop().sock_recv(connection, 1 << 16)
                assert part, told
                told += part

    async def held(self) -> dict[str, int]:
        """What is not as when nobody was there."""
        server, engine, listener = self.server, self.served.engine, self.listener
        stats, turns, generator = await engine.stats(), server.runs.turns, server.runs._generator
        found = {
            "blocks": stats.cache.held,
            "sequences": stats.sequences,
            "tasks of the engine": stats.waiting + stats.running,
            "programs of the engine": len(engine._jobs),
            "asks": len(generator._waited) + len(generator._under_way),
            "compilations": len(engine.engine.core.grammars._waiting),
            "turns": turns.running + turns.waiting + turns._of.total() + len(turns._queues),
            "jobs": len(server.jobs._jobs),
            "connections": len(listener.server_state.connections),
            "answers": len(listener.server_state.tasks),
            "tasks": len(asyncio.all_tasks()) - self.tasks,
        }
        return {name: count for name, count in found.items() if count}

    async def nothing_left(self, within: float = 1.0) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + within
        while found := await self.held():
            assert loop.time() < ends, found
            await asyncio.sleep(0.002)


async def soon(is_so: Callable[[], bool], within: float) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + within
    while loop.time() < ends:
        if is_so():
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"not within {within} s")


@asynccontextmanager
async def door(tokenizer: Tokenizer, **config: Any) -> AsyncIterator[Door]:
    keys = {KEY: "me", "another": "others"}
    settings = {"key": KEY, "keys": keys, "model": "toy", "kept": 0, "tenant": 100, **config}
    async with listening(tokenizer, **settings) as (served, listener):
        await soon(lambda: listener.started, 5)
        gate = Gate()
        with pytest.MonkeyPatch.context() as patch:
            watched(gate, served, patch)
            yield Door(served, listener, gate, len(asyncio.all_tasks()))


async def leave_in(
    phase: str, door: Door, ask: tuple[str, dict[str, Any]], *, stream: bool, rst: bool
) -> None:
    """One request, whose client leaves in that phase."""
    path, body = ask
    door.gate.expect(phase)
    stream = stream and not (path == "/generate" and phase == "fork")
    request = path, {**body, "stream": stream}
    if phase == "queued":
        turns = door.server.runs.turns
        async with turns.turn(Tenant("others", b"")):
            connection = await door.come(request)
            await soon(lambda: turns.waiting == 1, 10)
            await door.leave(connection, rst=rst)
            await soon(lambda: turns.waiting == 0, 1)
    else:
        connection = await door.come(request)
        if stream and phase == "between events":
            await door.until(b"data: ", connection)
        else:
            async with asyncio.timeout(10):
                await door.gate.reached.wait()
        await door.leave(connection, rst=rst)
    await door.nothing_left()


def census() -> Counter[str]:
    """The objects of ours that there are, by class, but for what caches keep."""
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    kept = ("ramet.cache.", "ramet.runtime.grammar.", "ramet.runtime.tokenizer.", "ramet.types.")
    return Counter(
        name for name in names if name.startswith("ramet.") and not name.startswith(kept)
    )


WAYS = [(stream, rst) for stream in (False, True) for rst in (False, True)]


async def leave_everywhere(door: Door, rounds: int) -> None:
    """As often as that in every phase, for each of the ways."""
    number = 0
    before: Counter[str] = Counter()
    for at in range(rounds + 1):
        for phase, asks in PHASES.items():
            for stream, rst in WAYS:
                ask = asks[(at + stream + 2 * rst) % len(asks)](number)
                await leave_in(phase, door, ask, stream=stream, rst=rst)
                number += 1
        if at == 0:
            before = census()
    after = census()
    assert not after - before, after - before


async def storm(door: Door, clients: int, at_once: int) -> None:
    """They leave at any moment, many at the same time."""
    dice, gate = random.Random(7), asyncio.Semaphore(at_once)
    asks = [ask for asks in PHASES.values() for ask in asks]

    async def client(number: int) -> None:
        stream, rst, ask = bool(dice.getrandbits(1)), bool(dice.getrandbits(1)), dice.choice(asks)
        path, body = ask(number)
        async with gate:
            connection = await door.come((path, {**body, "stream": stream}))
            await asyncio.sleep(dice.random() * 0.1)
            await door.leave(connection, rst=rst)

    await asyncio.gather(*map(client, range(clients)))
    await door.nothing_left()


def test_leaving_in_every_phase_leaves_nothing(byte_tokenizer: Tokenizer) -> None:
    async def main() -> None:
        async with door(byte_tokenizer, running=1) as there:
            await leave_everywhere(there, rounds=0)

    asyncio.run(main())


def test_leaving_at_any_moment_leaves_nothing(byte_tokenizer: Tokenizer) -> None:
    async def main() -> None:
        async with door(byte_tokenizer, running=6) as there:
            await storm(there, clients=40, at_once=20)

    asyncio.run(main())


@pytest.mark.slow
def test_leaving_a_thousand_times_in_every_phase(byte_tokenizer: Tokenizer) -> None:
    async def main() -> None:
        async with door(byte_tokenizer, running=1) as there:
            await leave_everywhere(there, rounds=250)

    asyncio.run(main())


@pytest.mark.slow
def test_a_thousand_that_leave_at_any_moment(byte_tokenizer: Tokenizer) -> None:
    async def main() -> None:
        async with door(byte_tokenizer, running=6) as there:
            await storm(there, clients=1_000, at_once=40)

    asyncio.run(main())

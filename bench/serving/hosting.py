"""Starts a server in a process of its own, and asks it what no route tells; see `host.py`."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.connection import Answer, ask, post, request

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Hosted:
    """A server that listens."""

    port: int
    model: str
    process: Process
    gate: asyncio.Lock  # one question at a time

    async def look(self, question: str, **more: Any) -> Any:
        """The answer to a question about its inside."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        async with self.gate:
            self.process.stdin.write(json.dumps({"ask": question, **more}).encode() + b"\n")
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended while it was asked for {question}")
        return json.loads(line)

    async def forget(self) -> None:
        """Nothing is cached any more of whoever needs no key."""
        answer = await ask(self.port, request("DELETE", "/v1/cache"))
        assert answer.status == 200, answer.body

    async def run(self, source: str, arguments: dict[str, Any]) -> Answer:
        """One program, and its answer."""
        return await ask(
            self.port, post("/v1/programs", {"source": source, "arguments": arguments})
        )


@asynccontextmanager
async def hosted(
    model: str, *, dtype: str | None = None, **config: Any
) -> AsyncGenerator[Hosted, None]:
    """The server inside; `config` are settings of the server that are not its defaults."""
    settings = {"model": model, "dtype": dtype, "config": {"model": model, **config}}
    async with child("host.py", json.dumps(settings)) as (process, port):
        yield Hosted(port, model, process, asyncio.Lock())


@asynccontextmanager
async def delayed(port: int, delay: float) -> AsyncGenerator[int, None]:
    """The port of a proxy to that one, through which bytes take so many seconds each way."""
    async with child("proxy.py", str(port), str(delay)) as (_, found):
        yield found


@asynccontextmanager
async def child(script: str, *arguments: str) -> AsyncGenerator[tuple[Process, int], None]:
    """A process that prints its port first, and ends when its stdin does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(FOLDER / script), *arguments, stdin=PIPE, stdout=PIPE, limit=1 << 24
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{script} did not begin")
        yield process, int(line)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

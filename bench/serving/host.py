"""A server in a process of its own, as `ramet serve` runs it, with a way to look inside.

    python bench/serving/host.py '{"model": "smollm2-135m", "config": {"model": "smollm2-135m"}}'

Prints its port. Then each line on stdin is a question, `{"ask": NAME, ...}`, and each line on
stdout its answer; no route leads here. Ends when stdin does. `hosting.py` is the other side.
"""

import asyncio
import gc
import json
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch

import ramet
from ramet.runtime import AsyncEngine, Engine, EngineConfig
from ramet.runtime.models import load_model
from ramet.runtime.result import Finished
from ramet.runtime.server import ServerConfig, create_app
from ramet.runtime.server.context import Server
from ramet.runtime.server.serve import Listener, listen, short_pauses

TINY = "tiny"
"""A Llama of two narrow layers with random weights, whose tokens are bytes."""

TICK = os.sysconf("SC_CLK_TCK")


def engine_of(model: str, dtype: str | None) -> Engine:
    if model != TINY:
        return Engine(model, dtype=dtype)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from byte_tokens import byte_tokenizer

    torch.set_num_threads(1)  # there is nothing for a second one to do
    with TemporaryDirectory(prefix="ramet-tiny-") as folder:
        save_tiny(folder)
        config = EngineConfig(num_blocks=4096)
        found, _ = load_model(folder, dtype="float32", cache=config.models)
        return Engine.of(found, byte_tokenizer(words=True), config)


def save_tiny(folder: str) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16_384,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


class Host:
    """Answers questions about one server. Each public coroutine is one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._engine = server.engine
        self._loop_thread = threading.get_native_id()

    async def usage(self) -> dict[str, float]:
        """As `usage`."""
        return usage(self._loop_thread)

    async def state(self) -> dict[str, Any]:
        """What is held, once the books are audited; `audit` is what was wrong with them, if so."""
        gc.collect()
        try:
            await self._engine.audit()
            audit = "clean"
        except Exception as error:
            audit = str(error)
        stats = await self._engine.stats()
        turns = self._server.runs.turns
        held = {
            "blocks_held": stats.cache.held,
            "sequences": stats.sequences,
            "engine_waiting": stats.waiting,
            "engine_running": stats.running,
            "turns": turns.running,
            "turns_waiting": turns.waiting,
            "reserved": turns._of.total(),
            "jobs_running": sum(
                job.status == "running" for job in self._server.jobs._jobs.values()
            ),
            "tasks": len(asyncio.all_tasks()),
            "files": len(os.listdir("/proc/self/fd")),
        }
        work = {name: getattr(stats, name) for name in ("steps", "failed_steps", "preemptions")}
        pools = Counter(re.sub(r"[-_ ]?\d+$", "", each.name) for each in threading.enumerate())
        return {"audit": audit, "held": held, "engine": work, "threads": dict(pools)}

    async def engine(
        self, source: str, arguments: Sequence[dict[str, Any]], events: bool
    ) -> dict[str, float]:
        """Runs programs on the engine without any HTTP, all at once: seconds, and tokens drawn."""
        program = ramet.loads(source)

        async def one(given: dict[str, Any]) -> int:
            if not events:
                return (await self._engine.run(program, **given)).usage.generated
            async with aclosing(self._engine.stream(program, **given)) as items:
                async for item in items:
                    if isinstance(item, Finished):
                        return item.usage.generated
            raise AssertionError("a run ends with its result")

        started = perf_counter()
        tokens = await asyncio.gather(*map(one, arguments))
        return {"seconds": perf_counter() - started, "tokens": sum(tokens)}

    async def answer(self, ask: str, **more: Any) -> Any:
        return await getattr(self, ask)(**more)


def usage(loop_thread: int) -> dict[str, float]:
    """Seconds of CPU so far, by thread, and bytes of memory that are resident now."""
    roles = {each.native_id: each.name for each in threading.enumerate()}
    spent: Counter[str] = Counter(loop=0, engine=0, others=0)
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        id = int(task.name)
        role = "engine" if roles.get(id) == "ramet-engine" else "others"
        spent["loop" if id == loop_thread else role] += int(fields[11]) + int(fields[12])
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    seconds = {role: ticks / TICK for role, ticks in spent.items()}
    return {**seconds, "rss": pages * os.sysconf("SC_PAGE_SIZE")}


async def main() -> None:
    given = json.loads(sys.argv[1])
    config = ServerConfig(port=0, **given["config"])
    running = AsyncEngine.of(engine_of(given["model"], given.get("dtype")))
    app = create_app(running, config)
    listener = Listener(app)
    lines = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    with closing(listen(config)) as listening, short_pauses():
        serving = asyncio.create_task(listener.serve([listening]))
        host = Host(app.state.server)
        print(listening.getsockname()[1], flush=True)
        with suppress(BrokenPipeError):  # who asked is gone
            while line := await lines.readline():
                print(json.dumps(await host.answer(**json.loads(line))), flush=True)
        listener.should_exit = True
        await serving
    await running.close()


if __name__ == "__main__":
    asyncio.run(main())

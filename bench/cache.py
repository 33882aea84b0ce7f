"""What the block cache costs: a decode step, a fork, the adoption of a prompt. No model, no tensors.

    python bench/cache.py [--json FILE] [--repeats N]

A decode step is reserve(1) and commit([token]) for every sequence, over a whole number of blocks, so
that each sequence takes and publishes one block every 16 steps. Staggered sequences reach their
block's end in different steps, aligned ones all in the same: the worst step of all.
"""

import argparse
import gc
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from ramet.cache import BlockPool, BlockTable

BLOCK = 16
PROMPT = 1_000
BATCHES = (32, 256, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the block cache costs.")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of 64 steps")
    options = parser.parse_args()
    rows: dict[str, float] = {}
    for batch in BATCHES:
        for layout in ("staggered", "aligned"):
            steps = decode_steps(batch, layout == "staggered", options.repeats)
            rows[f"decode step, {batch} {layout}, median ms"] = statistics.median(steps)
            rows[f"decode step, {batch} {layout}, mean ms"] = statistics.fmean(steps)
            rows[f"decode step, {batch} {layout}, worst ms"] = max(steps)
    rows |= prompts(options.repeats)
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value:8.4f}")
    if options.json:
        machine = {"machine": platform.machine(), "python": platform.python_version()}
        options.json.write_text(json.dumps(machine | rows, indent=2) + "\n")


def decode_steps(batch: int, staggered: bool, repeats: int) -> list[float]:
    """Milliseconds of each of 64 steps; the best of `repeats` rounds for each."""
    rounds: list[list[float]] = []
    for _ in range(repeats):
        draw = random.Random(0)
        pool = BlockPool(batch * 8, BLOCK, seed=0)
        tables = [BlockTable(pool) for _ in range(batch)]
        for place, table in enumerate(tables):
            fill(table, [draw.randrange(50_000) for _ in range(place % BLOCK if staggered else 0)])
        tokens = [[draw.randrange(50_000) for _ in tables] for _ in range(4 * BLOCK)]
        rounds.append([timed(lambda row=row: step(tables, row)) for row in tokens])
    return [min(times) for times in zip(*rounds, strict=True)]


def step(tables: list[BlockTable], row: list[int]) -> None:
    for table in tables:
        table.reserve(1)
    for table, token in zip(tables, row, strict=True):
        table.commit([token])


def prompts(repeats: int) -> dict[str, float]:
    """Milliseconds for what happens to a prompt of 1,000 tokens as a whole."""
    draw = random.Random(0)
    pool = BlockPool(1_024, BLOCK, seed=0)
    tokens = [draw.randrange(50_000) for _ in range(PROMPT)]
    holder = BlockTable(pool)
    times: dict[str, list[float]] = {}
    for _ in range(20 * repeats):
        pool.clear()
        fresh = BlockTable(pool)
        record(times, "adopt, nothing found", lambda: fresh.adopt(tokens))  # noqa: B023
        record(times, "announce", lambda: fresh.announce(tokens))  # noqa: B023
        record(times, "reserve and commit", lambda: fill(fresh, tokens))  # noqa: B023
        holder, idle = fresh, BlockTable(pool)
        record(times, "adopt, all found", lambda: idle.adopt(tokens))  # noqa: B023
        record(times, "fork", lambda: children.append(holder.fork()), children := [])  # noqa: B023
        record(times, "release, shared", idle.release)
        for table in (*children, holder):
            table.release()
    return {
        f"{PROMPT} tokens: {name}, median ms": statistics.median(t) for name, t in times.items()
    }


def record(
    times: dict[str, list[float]], name: str, call: Callable[[], object], *_: object
) -> None:
    times.setdefault(name, []).append(timed(call))


def fill(table: BlockTable, tokens: list[int]) -> None:
    table.reserve(len(tokens))
    table.commit(tokens)


def timed(call: Callable[[], object]) -> float:
    """Milliseconds, the garbage collector held off: its pauses are the process's, not the cache's."""
    gc.disable()
    start = time.perf_counter()
    call()
    spent = time.perf_counter() - start
    gc.enable()
    return spent * 1e3


if __name__ == "__main__":
    main()

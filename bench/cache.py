"""What the block cache costs: a decode step, a fork, adopting a prompt. No model, no tensors.

    python bench/cache.py [--json bench/results/cache.json] [--repeats N]

A decode step is reserve(1) and commit([token]) for every sequence. Each sequence takes and
publishes a block every 16 steps: staggered sequences in different steps, aligned ones all in the
same, which is the worst step there is. The mean counts every step.
"""

import argparse
import gc
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from machine import write

from ramet.cache import BlockPool, BlockTable

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 16
STEPS = 4 * BLOCK
PROMPT = 1_000
BATCHES = (32, 256, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the block cache costs.")
    parser.add_argument("--json", type=Path, default=Path("bench/results/cache.json"))
    parser.add_argument("--repeats", type=int, default=7, help="rounds, of which the best counts")
    options = parser.parse_args()
    rows = {
        f"decode, {batch} {layout} sequences": decode(batch, layout, options.repeats)
        for batch in BATCHES
        for layout in ("staggered", "aligned")
    }
    rows |= {
        f"{name}, {PROMPT} tokens": summary(times)
        for name, times in prompt(options.repeats).items()
    }
    print(f"{'milliseconds':<36}{'median':>9}{'mean':>9}{'worst':>9}")
    for name, row in rows.items():
        print(f"{name:<36}" + "".join(f"{value:9.4f}" for value in row.values()))
    write(options.json, "cache", [{"act": name, **_rounded(row)} for name, row in rows.items()])


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: round(milliseconds, 5) for name, milliseconds in row.items()}


def summary(times: list[float]) -> dict[str, float]:
    mean = statistics.fmean(times)
    return {"median": statistics.median(times), "mean": mean, "worst": max(times)}


def decode(batch: int, layout: str, repeats: int) -> dict[str, float]:
    """Of each step the best of `repeats` rounds: what else the machine does is not the cache's."""
    rounds = [decode_round(batch, layout == "staggered") for _ in range(repeats)]
    return summary([min(times) for times in zip(*rounds, strict=True)])


def decode_round(batch: int, staggered: bool) -> list[float]:
    draw = random.Random(0)
    pool = BlockPool(batch * (STEPS // BLOCK + 2), BLOCK, seed=0)
    tables = [BlockTable(pool) for _ in range(batch)]
    for place, table in enumerate(tables):
        fill(table, draw.choices(range(50_000), k=place % BLOCK if staggered else 0))
    rows = [draw.choices(range(50_000), k=batch) for _ in range(STEPS)]
    return [timed(lambda row=row: step(tables, row)) for row in rows]


def step(tables: list[BlockTable], row: list[int]) -> None:
    for table in tables:
        table.reserve(1)
    for table, token in zip(tables, row, strict=True):
        table.commit([token])


def prompt(repeats: int) -> dict[str, list[float]]:
    """What happens to a prompt as a whole, each act many times over."""
    tokens = random.Random(0).choices(range(50_000), k=PROMPT)
    pool = BlockPool(PROMPT, BLOCK, seed=0)
    times: dict[str, list[float]] = {}
    for _ in range(20 * repeats):
        first, second = BlockTable(pool), BlockTable(pool)
        acts: dict[str, Callable[[], object]] = {
            "adopt, nothing there": lambda table=first: table.adopt(tokens),
            "announce": lambda table=first: table.announce(tokens),
            "reserve and commit": lambda table=first: fill(table, tokens),
            "adopt, all there": lambda table=second: table.adopt(tokens),
            "fork and release": lambda table=first: table.fork().release(),
        }
        for name, act in acts.items():
            times.setdefault(name, []).append(timed(act))
        first.release()
        second.release()
        pool.clear()
    return times


def fill(table: BlockTable, tokens: list[int]) -> None:
    table.reserve(len(tokens))
    table.commit(tokens)


def timed(act: "Callable[[], object]") -> float:
    """Milliseconds with the garbage collector held off: its pauses belong to the whole process."""
    gc.disable()
    start = time.perf_counter()
    act()
    spent = time.perf_counter() - start
    gc.enable()
    return spent * 1e3


if __name__ == "__main__":
    main()

"""Cost as work grows: a decode step by batch and context, and our own bookkeeping by sequences.

    python bench/scaling.py [--json bench/results/scaling.json] [--memory GIB] [--quick]

* decode: one step of SmolLM2-135M in which every sequence has one token to run: scheduled, packed,
  run to its logits. Batches of 1 to 256 with contexts of 128 to 8,192 tokens, once with nothing
  shared and once on a prefix that all share but for their last 32 tokens. What lies in the blocks
  does not matter for the time: they are filled with noise, and nothing is computed before. The
  shortest of some steps counts. Sequences whose keys and values take more than `--memory` together
  are left out, and told as such.
* bookkeeping: the same step without a model, in CPU time: the scheduler's and the block cache's
  part (`schedule`, `commit`), and the runner's (`pack`: tables and positions as tensors, and the
  attention backend's plan). Every pool is full, so that each new block evicts one. Medians of 32
  steps, in each of which one of 16 sequences takes a new block, with the garbage collector held
  off. `turnover` is what a sequence that ends, and one that comes in its place with as long a
  prompt that is cached, add to a step.
"""

import argparse
import gc
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import torch
from machine import write
from rich.console import Console
from torch import Tensor

from ramet.cache import BlockPool, BlockTable
from ramet.runtime import EngineConfig
from ramet.runtime.models import Model, ModelShape, PagedAttention, load_model
from ramet.runtime.runner import Runner
from ramet.runtime.scheduler import Scheduler
from ramet.runtime.sequence import Sequence, Task

BLOCK = 16
OWN = 32  # tokens of its own that a sequence has behind a shared prefix
BATCHES, CONTEXTS = (1, 4, 16, 64, 256), (128, 512, 2048, 8192)
INT8_BATCHES, INT8_CONTEXTS = (1, 16, 256), (128, 2048)
MOST_SEQUENCES, MOST_BLOCKS = 4096, 1_000_000
STEPS, TURNOVERS = 32, 16
PARTS = ("schedule", "pack", "commit")

Row = dict[str, object]


@dataclass(eq=False, slots=True, kw_only=True)
class Decode(Task):
    """Runs the last token of its sequence, step after step."""

    @property
    def end(self) -> int:
        return len(self.sequence.tokens)

    @property
    def wanted(self) -> int:
        return len(self.sequence.tokens) - 1


class Crowd:
    """Sequences that decode, under a scheduler of their own."""

    def __init__(self, pool: BlockPool, most: int) -> None:
        self.scheduler = Scheduler(pool, step_tokens=4 * most, chunk=None, max_sequences=most)
        self._ids = count()

    def add(self, tokens: list[int], table: BlockTable) -> None:
        """A sequence of which all tokens but the last are computed."""
        self.scheduler.resume(self._task(tokens, table))

    def arrive(self, tokens: list[int], pool: BlockPool) -> None:
        self.scheduler.submit(self._task(tokens, BlockTable(pool)))

    def leave(self, place: int) -> list[int]:
        """One that runs ends; its tokens."""
        task = self.scheduler.running[place]
        self.scheduler.remove(task)
        self.scheduler.forget(task.sequence)
        task.sequence.table.release()
        return task.sequence.tokens

    def _task(self, tokens: list[int], table: BlockTable) -> Decode:
        sequence = Sequence(tokens, table)
        task = Decode(id=next(self._ids), sequence=sequence, on_done=lambda task: None)
        task.prompt = len(tokens)
        return task


def filled(table: BlockTable, tokens: list[int]) -> BlockTable:
    table.reserve(len(tokens))
    table.commit(tokens)
    return table


# -- decode


def decode(runner: Runner, batch: int, context: int, shared: bool, repeats: int) -> float:
    """Seconds of the quickest of some steps in which every context comes to so many tokens."""
    draw = random.Random(0)
    layout = runner.layout
    pool = BlockPool(layout.num_blocks, layout.block_size, seed=0)
    words = range(runner.model.shape.vocab)
    prefix = draw.choices(words, k=context - OWN if shared else 0)
    trunk = filled(BlockTable(pool), prefix)
    crowd = Crowd(pool, batch)
    for _ in range(batch):
        tokens = prefix + draw.choices(words, k=context - len(prefix))
        crowd.add(tokens, filled(trunk.fork(), tokens[len(prefix) : -1]))
    return min(step_of(crowd.scheduler, runner) for _ in range(repeats))


def step_of(scheduler: Scheduler, runner: Runner) -> float:
    """Of a step that is undone again."""
    started = perf_counter()
    batch = scheduler.schedule()
    assert batch is not None
    runner.run(batch)
    spent = perf_counter() - started
    scheduler.rollback()
    return spent


def decodes(options: argparse.Namespace, tell: Callable[[str], None]) -> Iterator[Row]:
    grids = {"float32": (BATCHES, CONTEXTS), "int8": (INT8_BATCHES, INT8_CONTEXTS)}
    for dtype, (batches, contexts) in grids.items():
        model, _ = load_model("smollm2-135m", dtype=dtype, cache=EngineConfig().models)
        runner = noisy(model, options.memory)
        for shared in (False, True):
            for context in contexts[: 2 if options.quick else None]:
                for batch in batches[: 3 if options.quick else None]:
                    row: Row = {
                        "part": "decode",
                        "dtype": dtype,
                        "shared": shared,
                        "batch": batch,
                        "context": context,
                    }
                    own = OWN if shared else context
                    needed = (batch * own + context) // BLOCK * runner.layout.block_bytes
                    name = f"{dtype}, {batch} × {context}{', shared' if shared else ''}"
                    if needed > options.memory * 2**30:
                        yield row | {"skipped": f"{needed / 2**30:.1f} GiB of keys and values"}
                        continue
                    spent = decode(runner, batch, context, shared, options.repeats)
                    tell(f"{name}: {1e3 * spent:.1f} ms")
                    yield row | {"ms": round(1e3 * spent, 2)}
        del model, runner
        gc.collect()


def noisy(model: Model, gib: float) -> Runner:
    """A runner whose blocks take so much memory and hold noise."""
    block_bytes = Runner(model, 1, BLOCK).layout.block_bytes
    runner = Runner(model, int(gib * 2**30) // block_bytes, BLOCK)
    places = runner.backend.cache.data.flatten()
    noise = torch.randn(2**24)
    for part in places.split(len(noise)):
        part.copy_(noise[: len(part)])
    return runner


# -- bookkeeping


class Nothing:
    """A model that gives no logits and computes nothing."""

    def __init__(self) -> None:
        self.shape = ModelShape(
            layers=1,
            kv_heads=1,
            head_dim=16,
            vocab=50_000,
            context=1 << 20,
            eos=frozenset(),
            dtype=torch.float32,
            name="nothing",
        )
        self._logits = torch.empty(0, self.shape.vocab)

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        return self._logits


class Books:
    """A crowd in a pool that is full, and a runner that computes nothing."""

    def __init__(self, sequences: int, blocks: int, context: int) -> None:
        self._draw = random.Random(0)
        self._context = context
        self.pool = BlockPool(blocks, BLOCK, seed=0)
        self.runner = Runner(Nothing(), blocks, BLOCK)
        self._words = range(self.runner.model.shape.vocab)
        self.crowd = Crowd(self.pool, sequences)
        for place in range(sequences):
            tokens = self._tokens(context + place % BLOCK)
            self.crowd.add(tokens, filled(BlockTable(self.pool), tokens[:-1]))
        while self.pool.free:
            tokens = self._tokens(min(len(self.pool.free), 512) * BLOCK)
            filled(BlockTable(self.pool), tokens).release()

    def measure(self, sequences: int) -> Row:
        """Microseconds of each part of a step, once there are no more sequences than that."""
        while len(self.crowd.scheduler.running) > sequences:
            self.crowd.leave(-1)
        steps = [self.step() for _ in range(STEPS + 2)][2:]
        spent = {part: median(step[part] for step in steps) for part in PARTS}
        turnovers = [
            self.turn_over() + self.step()["schedule"] - spent["schedule"] for _ in range(TURNOVERS)
        ]
        return {
            "part": "bookkeeping",
            "sequences": sequences,
            "blocks": self.pool.num_blocks,
            "context": self._context,
            "us_per_sequence": {part: round(1e6 * spent[part] / sequences, 3) for part in PARTS},
            "ms_per_step": round(1e3 * sum(spent.values()), 3),
            "us_per_turnover": round(1e6 * median(turnovers), 1),
        }

    def step(self) -> dict[str, float]:
        """Seconds of each part; afterwards every sequence has a token more."""
        started = thread_time()
        batch = self.crowd.scheduler.schedule()
        scheduled = thread_time()
        assert batch is not None
        self.runner.run(batch)
        packed = thread_time()
        self.crowd.scheduler.commit(batch)
        committed = thread_time()
        for entry, token in zip(batch.entries, self._tokens(len(batch.entries)), strict=True):
            entry.task.sequence.tokens.append(token)
        times = (scheduled - started, packed - scheduled, committed - packed)
        return dict(zip(PARTS, times, strict=True))

    def turn_over(self) -> float:
        """Seconds in which the first sequence ends, and one comes with what that had."""
        started = thread_time()
        self.crowd.arrive(self.crowd.leave(0), self.pool)
        return thread_time() - started

    def _tokens(self, count: int) -> list[int]:
        return self._draw.choices(self._words, k=count)


def bookkeepings(options: argparse.Namespace, tell: Callable[[str], None]) -> Iterator[Row]:
    cut = 64 if options.quick else 1
    sequences, blocks = MOST_SEQUENCES // cut, MOST_BLOCKS // cut
    long = BLOCK * (blocks // sequences - 6)
    sizes = [4**power for power in range(7) if 4**power <= sequences]
    sweeps = [("sequences", sizes[::-1], blocks, long)]
    few = 256 // cut
    sweeps += [("blocks", [few], blocks // part, 512) for part in (64, 16, 4, 1)]
    sweeps += [("context", [few], blocks // 4, context) for context in (128, 512, 2048, 8192)]
    for sweep, counts, blocks, context in sweeps:
        gc.disable()
        books = Books(counts[0], blocks, context)
        for each in counts:
            row = books.measure(each)
            tell(line(row))
            yield {"sweep": sweep} | row
        del books
        gc.enable()


def line(row: Row) -> str:
    parts: Any = row["us_per_sequence"]
    told = ", ".join(f"{part} {time} µs" for part, time in parts.items())
    return (
        f"{row['sequences']} sequences of {row['context']} tokens, {row['blocks']:,} blocks: "
        f"{told} each; a turnover {row['us_per_turnover']} µs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="cost as work grows")
    parser.add_argument("--json", type=Path, default=Path("bench/results/scaling.json"))
    parser.add_argument("--memory", type=float, default=6.25, help="GiB of keys and values")
    parser.add_argument("--repeats", type=int, default=4, help="steps, of which the best counts")
    parser.add_argument("--quick", action="store_true", help="small sizes, no file")
    options = parser.parse_args()

    console = Console()

    def tell(text: str) -> None:
        console.print(text, highlight=False)

    rows: list[Row] = [*bookkeepings(options, tell), *decodes(options, tell)]
    if not options.quick:
        limits: Row = {"part": "limits", "memory_gib": options.memory, "own_tokens": OWN}
        write(options.json, "scaling", [*rows, limits])


if __name__ == "__main__":
    main()

"""The CPU kernels against what the machine can do, in one call; and when sharing pays.

    python bench/kernels.py [--json bench/results/kernels.json] [--quick]

The shapes are SmolLM2-135M's: 9 heads of 64 over 3 key heads, float32, blocks of 16; keys and
values are kept in float32, or in bfloat16 where it says so. Each kernel's bytes (of what it must
touch, once) and floating-point operations a second are given as shares of two ceilings: a copy in
memory with all threads, counted both ways, and a large float32 product. Attention runs over as many
layers as take their keys out of the processor's caches.

The sweep at the end runs 64 sequences in families of `fan` that share their first `shared` tokens,
each with 64 of its own: the time with sharing as chosen, and with all that can be shared, over the
time without. The constants in `kernels/ops/units.py` are taken from it.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from machine import median, write

from ramet.kernels import KVCache, KVLayout, Rotary, Step, extension, float32, int8
from ramet.kernels.compiled import CompiledBackend
from ramet.kernels.memory import kept
from ramet.kernels.units import MIN_SAVED

HEADS, KV_HEADS, DIM, BLOCK = 9, 3, 64, 16
HIDDEN, WIDE = 576, 1536
TOUCHED = 96 << 20  # bytes of keys and values that a measurement goes through at least
NEVER = 1 << 60


@dataclass(frozen=True)
class Ceiling:
    bytes_per_s: float
    flops: float


@dataclass(frozen=True)
class Work:
    """One kernel at one size: what a call costs at least, and how to make one."""

    kernel: str
    size: str
    bytes: float
    operations: float
    call: Callable[[], object]
    calls: int = 1  # that `call` makes


def best(call: Callable[[], object], seconds: float) -> float:
    """Median time of calls over about so many seconds."""
    call()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        started = perf_counter()
        call()
        times.append(perf_counter() - started)
    return median(times)


def ceiling(seconds: float) -> Ceiling:
    source, target = torch.ones(64 << 20), torch.ones(64 << 20)
    a = torch.rand(1024, 1024)
    copied = best(lambda: target.copy_(source), seconds)
    multiplied = best(lambda: a @ a, seconds)
    return Ceiling(2 * source.nbytes / copied, 2 * 1024**3 / multiplied)


# -- steps


def step_of(lengths: Sequence[tuple[int, int]], shared: int = 0, fan: int = 0) -> Step:
    """Sequences of (context, query tokens), `fan` of which begin with the same `shared` tokens."""
    draw = random.Random(0)
    needed = [-(-context // BLOCK) for context, _ in lengths]
    order = draw.sample(range(sum(needed)), sum(needed))
    tables = np.full((len(lengths), max(needed)), -1, np.int64)
    common = shared // BLOCK
    for row, count in enumerate(needed):
        tables[row, :count] = [order.pop() for _ in range(count)]
        if fan and row % fan:
            tables[row, :common] = tables[row - 1, :common]
    slots = [
        int(tables[row, place // BLOCK]) * BLOCK + place % BLOCK
        for row, (context, count) in enumerate(lengths)
        for place in range(context - count, context)
    ]
    return Step(
        query_starts=torch.from_numpy(np.cumsum([0, *(count for _, count in lengths)])),
        contexts=torch.tensor([context for context, _ in lengths]),
        block_tables=torch.from_numpy(tables),
        slots=torch.tensor(slots),
    )


def cache_of(step: Step, dtype: torch.dtype = torch.float32) -> KVCache:
    """Large enough for the step, with layers enough."""
    blocks = int(step.block_tables.max()) + 1
    of_layer = len(np.unique(step.block_tables)) * BLOCK * KV_HEADS * DIM * 2 * dtype.itemsize
    cache = KVCache(KVLayout(max(1, TOUCHED // of_layer), KV_HEADS, DIM, blocks, BLOCK, dtype))
    cache.data.normal_()
    return cache


def attention(
    kernel: str,
    size: str,
    step: Step,
    cache: KVCache | None = None,
    least_saved: int = MIN_SAVED,
) -> Work:
    backend = CompiledBackend(cache or cache_of(step), least_saved)
    plan = backend.plan(step)
    query = torch.randn(step.tokens, HEADS, DIM)
    layers = backend.cache.layout.layers

    def call() -> None:
        for layer in range(layers):
            backend.attend(plan, layer, query, scale=DIM**-0.5)

    counts = step.query_starts.diff()
    seen = (counts * (step.contexts - counts) + counts * (counts + 1) // 2).sum()
    tables, contexts = step.block_tables, step.contexts
    used = torch.arange(tables.shape[1]) * BLOCK < contexts[:, None]
    keys = len(np.unique(tables[used])) * BLOCK
    return Work(
        kernel,
        size,
        bytes=keys * KV_HEADS * DIM * 2 * backend.cache.data.itemsize + 2 * query.nbytes,
        operations=float(seen) * HEADS * DIM * 4,
        call=call,
        calls=layers,
    )


def decode(batch: int, context: int, dtype: torch.dtype = torch.float32) -> Work:
    step = step_of([(context + 1, 1)] * batch)
    name = "decode" if dtype == torch.float32 else "decode, bfloat16"
    return attention(name, f"{batch} × {context}", step, cache_of(step, dtype))


def writing(tokens: int) -> Work:
    step = step_of([(tokens, tokens)])
    backend = CompiledBackend(cache_of(step))
    plan = backend.plan(step)
    joined = torch.randn(tokens, (HEADS + 2 * KV_HEADS) * DIM)
    rotary = Rotary(torch.rand(tokens, DIM // 2), torch.rand(tokens, DIM // 2))

    def call() -> None:
        for layer in range(backend.cache.layout.layers):
            backend.write_joined(plan, layer, joined, rotary)

    turned = tokens * (HEADS + KV_HEADS) * DIM
    layers = backend.cache.layout.layers
    return Work("write joined", f"{tokens}", 2 * joined.nbytes, 3 * turned, call, layers)


def linears(rows: int) -> Iterator[Work]:
    """Gate and up of the feed-forward, over weights that do not stay in a cache."""
    weight, x = torch.randn(2 * WIDE, HIDDEN), torch.randn(rows, HIDDEN)
    layers = TOUCHED // weight.nbytes
    operations = 2.0 * rows * weight.numel()
    moved = x.nbytes + rows * 2 * WIDE * 4
    floats = [float32.pack(weight) for _ in range(layers)]
    yield Work(
        "linear float32",
        f"{rows}",
        weight.nbytes + moved,
        operations,
        lambda: [float32.linear(x, each) for each in floats],
        layers,
    )
    packed = int8.pack(weight)
    small = [
        int8.Int8Weight(kept(packed.values), kept(packed.scales), packed.outputs)
        for _ in range(4 * layers)
    ]
    yield Work(
        "linear int8",
        f"{rows}",
        packed.values.nbytes + packed.scales.nbytes + moved,
        operations,
        lambda: [int8.linear(x, each) for each in small],
        4 * layers,
    )


def works(quick: bool) -> Iterator[Work]:
    for tokens in (1, 64) if quick else (1, 16, 64, 1000):
        yield writing(tokens)
    for batch in (1, 64) if quick else (1, 16, 64):
        for context in (128, 1000) if quick else (128, 1000, 4000):
            yield decode(batch, context)
            yield decode(batch, context, torch.bfloat16)
    yield attention("prefill", "1000", step_of([(1000, 1000)]))
    yield attention("prefill", "256 behind 2000", step_of([(2256, 256)]))
    for batch in (64,) if quick else (16, 64, 256):
        step = step_of([(1008 + 32, 1)] * batch, 1008, batch)
        yield attention("shared run", f"{batch} × (1008 shared + 32)", step)
    for rows in (1, 64) if quick else (1, 16, 64, 256):
        yield from linears(rows)


# -- what is told


def kernel_rows(limit: Ceiling, quick: bool) -> Iterator[dict[str, object]]:
    for work in works(quick):
        each = best(work.call, 0.1 if quick else 0.5) / work.calls
        yield {
            "kernel": work.kernel,
            "size": work.size,
            "microseconds": round(each * 1e6, 1),
            "gigabytes_per_s": round(work.bytes / each / 1e9, 2),
            "of_bandwidth": round(work.bytes / each / limit.bytes_per_s, 3),
            "gigaflops": round(work.operations / each / 1e9, 1),
            "of_flops": round(work.operations / each / limit.flops, 3),
        }


def sharing_rows(quick: bool) -> Iterator[dict[str, object]]:
    for fan in (1, 2, 16) if quick else (1, 2, 4, 8, 16, 64):
        for shared in (0, 8, 64) if quick else (0, 8, 16, 64, 256, 1024):
            step = step_of([(shared + 64, 1)] * 64, shared, fan)
            cache = cache_of(step)
            plain, chosen, always = (
                attention("", "", step, cache, least) for least in (NEVER, MIN_SAVED, 1)
            )
            yield {"fan": fan, "shared": shared, **_ratios(plain, chosen, always, quick)}


def _ratios(plain: Work, chosen: Work, always: Work, quick: bool) -> dict[str, float]:
    """Medians of runs in turns."""
    times: list[tuple[float, float, float]] = []
    for _ in range(4 if quick else 10):
        a, b, c = (best(work.call, 0.0) for work in (plain, chosen, always))
        times.append((a, b, c))
    return {
        "microseconds": round(median([t[0] for t in times]) / plain.calls * 1e6, 1),
        "chosen": round(median([t[1] / t[0] for t in times]), 3),
        "always": round(median([t[2] / t[0] for t in times]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("bench/results/kernels.json"))
    parser.add_argument("--quick", action="store_true", help="small sizes, no file")
    options = parser.parse_args()
    assert extension.loaded(), "the compiled kernels are what is measured"
    limit = ceiling(0.2 if options.quick else 1.0)
    rows: list[dict[str, object]] = [
        {
            "ceiling": "copy and product",
            "gigabytes_per_s": round(limit.bytes_per_s / 1e9, 1),
            "gigaflops": round(limit.flops / 1e9, 1),
        }
    ]
    print(*rows)
    for made in (kernel_rows(limit, options.quick), sharing_rows(options.quick)):
        for row in made:
            print(
                *(f"{value:>9}" if key != "size" else f"{value:<26}" for key, value in row.items())
            )
            rows.append(row)
    if not options.quick:
        write(options.json, "kernels", rows)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

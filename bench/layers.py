"""All layers of a step as one operator, beside the same operators called one by one.

    python bench/layers.py [--json bench/results/layers.json] [--quick]

A step of SmolLM2-135M that decodes one token of each of some sequences, each with 100 tokens of its
own: the forward pass and the plan before it, as the engine has them. Both ways take turns; what
they give is equal to the bit. `ms` are medians.
"""

import argparse
from pathlib import Path

import torch
from machine import median, seconds, write
from rich.console import Console
from torch import Tensor

from ramet.kernels import Backend, KVCache, Step, backend_for
from ramet.runtime import EngineConfig
from ramet.runtime.models import PagedAttention, load_model
from ramet.runtime.models.llama import LlamaDecoder
from ramet.runtime.runner import layout_of

DTYPES, BATCHES = ("float32", "bfloat16", "int8"), (1, 8, 32, 64)
CONTEXT, BLOCK, TURNS = 100, 16, 40
WAYS = ("one by one", "one call")


def step_of(batch: int) -> Step:
    blocks = -(-CONTEXT // BLOCK)
    tables = torch.arange(batch * blocks).view(batch, blocks)
    return Step(
        query_starts=torch.arange(batch + 1),
        contexts=torch.full((batch,), CONTEXT),
        block_tables=tables,
        slots=tables[:, (CONTEXT - 1) // BLOCK] * BLOCK + (CONTEXT - 1) % BLOCK,
    )


def forward(model: LlamaDecoder, backend: Backend, step: Step) -> Tensor:
    batch = len(step.contexts)
    return model.forward(
        torch.arange(batch) + 5,
        torch.full((batch,), CONTEXT - 1),
        PagedAttention(backend, backend.plan(step)),
        torch.arange(batch),
    )


def measure(model: LlamaDecoder, dtype: str, batch: int, turns: int) -> dict[str, object]:
    backend = backend_for(KVCache(layout_of(model.shape, 64 * 8, BLOCK)))
    step = step_of(batch)
    compiled = model._compiled
    assert compiled is not None, "the kernels need a compiler"
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    logits: dict[str, Tensor] = {}
    for turn in range(turns + 3):
        for way in WAYS:
            model._compiled = compiled if way == "one call" else None
            spent = seconds(lambda way=way: logits.update({way: forward(model, backend, step)}), 1)
            if turn >= 3:
                times[way] += spent
    middle = {way: median(times[way]) for way in WAYS}
    return {
        "dtype": dtype,
        "batch": batch,
        "ms": {way: round(1e3 * spent, 2) for way, spent in middle.items()},
        "ratio": round(middle["one by one"] / middle["one call"], 3),
        "equal": torch.equal(*(logits[way] for way in WAYS)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="layers in one call beside one by one")
    parser.add_argument("--json", type=Path, default=Path("bench/results/layers.json"))
    parser.add_argument("--quick", action="store_true", help="two turns, no file")
    options = parser.parse_args()

    console = Console()
    rows: list[dict[str, object]] = []
    for dtype in DTYPES:
        model, _ = load_model("smollm2-135m", dtype=dtype, cache=EngineConfig().models)
        assert isinstance(model, LlamaDecoder)
        for batch in BATCHES:
            rows.append(measure(model, dtype, batch, 2 if options.quick else TURNS))
            console.print(rows[-1], highlight=False)
    if not options.quick:
        write(options.json, "layers", rows)


if __name__ == "__main__":
    main()

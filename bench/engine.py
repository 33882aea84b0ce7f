"""The engine against transformers.generate: same model, same prompts, same process, in turns.

    python bench/engine.py [--json bench/results/engine-cpu.json] [--quick]

Three workloads on SmolLM2-135M in float32: one stream, 32 short prompts, and 64 prompts on a shared
prefix of 1,000 tokens. Both sides generate exactly the number of tokens asked for, greedily, and
the medians of alternating runs are compared (one run each of the last, which takes transformers
minutes). `own` is what a step spends outside the model's forward pass: scheduling, block
bookkeeping, packing, drawing tokens, and text. `bfloat16` and `int8` are the engine in these, in
the same turns.
"""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from machine import median, seconds, write
from rich.console import Console
from torch import Tensor
from transformers import AutoModelForCausalLM

from ramet.params import SamplingParams
from ramet.runtime import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.models import Model, PagedAttention, load_model
from ramet.runtime.tokenizer import Piece, Tokenizer

DTYPES = ("float32", "bfloat16", "int8")
WORDS = (
    "the quick brown fox jumps over a lazy dog while seven wizards brew potions near an old stone "
    "bridge in autumn rain and nobody in the village knows why they came"
)


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    prompts: list[list[int]]
    tokens: int  # generated for each prompt
    target: float  # ratio to reach
    turns: int  # measured runs of each side, alternating


class Timed:
    """A model whose forward passes are timed."""

    def __init__(self, model: Model) -> None:
        self.shape = model.shape
        self.seconds = 0.0
        self._model = model

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        started = perf_counter()
        logits = self._model.forward(tokens, positions, attention, rows)
        self.seconds += perf_counter() - started
        return logits


def ours(model: Timed, tokenizer: Tokenizer, work: Workload) -> tuple[list[list[int]], float]:
    """All prompts at once through a fresh engine, in which nothing is cached from before; and the
    seconds that took, once it has the memory for its blocks.
    """
    blocks = sum(len(prompt) + work.tokens for prompt in work.prompts) // 16 + len(work.prompts) + 8
    core = EngineCore(model, tokenizer, EngineConfig(num_blocks=blocks))
    params = SamplingParams(max_tokens=work.tokens, ignore_eos=True)
    started = perf_counter()
    tasks = [
        core.generate(core.open(prompt), params, key=0, on_done=lambda task: None)
        for prompt in work.prompts
    ]
    while core.busy:
        core.step()
    return [task.drawn for task in tasks], perf_counter() - started


def theirs(model: Any, work: Workload) -> list[list[int]]:
    """`generate` on one left-padded batch."""
    longest = max(map(len, work.prompts))
    pads = [longest - len(prompt) for prompt in work.prompts]
    ids = [[0] * pad + prompt for pad, prompt in zip(pads, work.prompts, strict=True)]
    mask = [[0] * pad + [1] * (longest - pad) for pad in pads]
    out = model.generate(
        torch.tensor(ids),
        attention_mask=torch.tensor(mask),
        max_new_tokens=work.tokens,
        min_new_tokens=work.tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return out[:, longest:].tolist()


def workloads(tokenizer: Tokenizer, quick: bool) -> list[Workload]:
    draw = random.Random(0)
    vocabulary = WORDS.split()

    def text(words: int) -> list[int]:
        written = " ".join(draw.choices(vocabulary, k=words))
        return tokenizer.encode([Piece(written)], start=True)

    short = [text(17) for _ in range(32)]
    prefix = text(1200)[:1000]
    long = [prefix + text(draw.randint(8, 16)) for _ in range(64)]
    cut = 4 if quick else 1
    return [
        Workload("one stream, 64 tokens", short[:1], 64 // cut, 1.0, 5),
        Workload("32 short prompts × 64 tokens", short, 64 // cut, 1.3, 3),
        Workload("64 prompts on a shared 1,000 tokens × 32", long, 32 // cut, 8.0, 1),
    ]


def compare(
    work: Workload, models: dict[str, Model], tokenizer: Tokenizer, hf: Any
) -> dict[str, object]:
    """`models` by dtype."""
    sides = {dtype: Timed(model) for dtype, model in models.items()}
    mine = {dtype: ours(side, tokenizer, work)[0] for dtype, side in sides.items()}["float32"]
    spent: dict[str, list[float]] = {dtype: [] for dtype in sides}
    forward: list[float] = []
    other: list[float] = []
    reference: list[list[int]] = []
    for _ in range(work.turns):
        for dtype, side in sides.items():
            side.seconds = 0.0
            spent[dtype].append(ours(side, tokenizer, work)[1])
        forward.append(sides["float32"].seconds)
        other += seconds(lambda: reference.extend(theirs(hf, work)), 1)
    count, total = len(work.prompts) * work.tokens, spent.pop("float32")
    row: dict[str, object] = {
        "workload": work.name,
        "ours_tokens_per_s": round(count / median(total), 1),
        "transformers_tokens_per_s": round(count / median(other), 1),
        "ratio": round(median(other) / median(total), 2),
        "target": work.target,
        "own_share": round(median([1 - f / t for f, t in zip(forward, total, strict=True)]), 4),
        "equal_texts": f"{sum(a == b for a, b in zip(mine, reference, strict=False))}/{len(mine)}",
        "seconds_ours": [round(t, 3) for t in total],
        "seconds_transformers": [round(t, 3) for t in other],
    }
    for dtype, times in spent.items():
        row[f"{dtype}_tokens_per_s"] = round(count / median(times), 1)
        row[f"{dtype}_to_float32"] = round(median(total) / median(times), 2)
        row[f"seconds_{dtype}"] = [round(t, 3) for t in times]
    return row


def line(row: dict[str, object]) -> str:
    return (
        f"[bold]{row['workload']}[/]: {row['ours_tokens_per_s']} tokens/s, transformers "
        f"{row['transformers_tokens_per_s']}: [bold]{row['ratio']}×[/] (target {row['target']}×); "
        f"own time {row['own_share']:.1%}; equal texts {row['equal_texts']}"
        + "".join(
            f"; in {dtype} {row[f'{dtype}_tokens_per_s']} tokens/s, "
            f"[bold]{row[f'{dtype}_to_float32']}×[/] that of float32"
            for dtype in DTYPES[1:]
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="ramet against transformers")
    parser.add_argument("--json", type=Path, default=Path("bench/results/engine-cpu.json"))
    parser.add_argument("--quick", action="store_true", help="a quarter of the tokens, no file")
    options = parser.parse_args()

    cache = EngineConfig().models
    loaded = {dtype: load_model("smollm2-135m", dtype=dtype, cache=cache) for dtype in DTYPES}
    models = {dtype: model for dtype, (model, _) in loaded.items()}
    directory = loaded["float32"][1]
    tokenizer = Tokenizer.load(directory)
    hf: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    hf.eval()
    console = Console()
    rows: list[dict[str, object]] = []
    for work in workloads(tokenizer, options.quick):
        rows.append(compare(work, models, tokenizer, hf))
        console.print(line(rows[-1]), highlight=False)
    if not options.quick:
        write(options.json, "engine", rows)


if __name__ == "__main__":
    main()

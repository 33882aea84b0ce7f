"""Everything that is measured on a GPU, in one call.

    python bench/gpu.py [--json bench/results/gpu.json] [--only NAME]

* decode: attention of one layer, batch 64, context 4,096, 32 query and 8 key heads of 128, in bytes
  a second, against a copy within the device's memory.
* forest: 64 sequences on a shared run of 8,192 tokens with 256 of their own, against our own
  attention without sharing, and FlashInfer's cascade where it is installed.
* stream, batch: a decode step of the engine with random weights in the shape of Llama-3.1-8B in
  bfloat16, one sequence and 64, against the time in which a copy moves what the step has to read.
* beams, few-shot, select: the same model beside transformers, in turns.

Needs a CUDA device; without one it says so and exits with 1. A measurement that fails is told with
its error, the others go on, and it exits with 1, too.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_attention import Heads, cascade, copy_bandwidth, decoding, ours, time_of
from gpu_engine import LLAMA_8B, Both, beams, both, decode_steps, few_shot, select, step_bytes
from machine import median, seconds, write
from rich.console import Console

Row = dict[str, object]

BLOCKS = 6000  # of 16 tokens; 2 MiB each at this shape. transformers needs room beside them.
TURNS = 3


class Bench:
    """What is shared by the measurements of a call."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bandwidth = copy_bandwidth(device)
        self._side: Both | None = None

    @property
    def side(self) -> Both:
        if self._side is None:
            from ramet.runtime.models.linear_gpu import GpuLinear

            self._side = both(LLAMA_8B, torch.bfloat16, self.device, GpuLinear, num_blocks=BLOCKS)
        return self._side

    def decode(self) -> Row:
        world = decoding(Heads(), 64, 4096, self.device)
        taken = time_of(ours(world), self.device)
        return self._of_copy("attention, batch 64, context 4,096", world.bytes(), taken, 0.85)

    def forest(self) -> Row:
        shared = 8192
        world = decoding(Heads(), 64, 256, self.device, shared)
        mine = time_of(ours(world), self.device)
        plain = time_of(ours(world, shares=False), self.device)
        row: Row = {
            "workload": "attention, 64 sequences on a shared 8,192 tokens with 256 of their own",
            "microseconds": round(mine * 1e6, 1),
            "microseconds_unshared": round(plain * 1e6, 1),
            "ratio": round(plain / mine, 2),
            "target": 8.0,
        }
        peer = cascade(world, shared)
        if peer is None:
            return row | {"flashinfer": "not installed"}
        theirs = time_of(peer, self.device)
        error = float((peer().float() - ours(world)().float()).abs().max())
        return row | {
            "microseconds_flashinfer": round(theirs * 1e6, 1),
            "ratio_to_flashinfer": round(theirs / mine, 2),
            "largest_difference": error,
        }

    def stream(self) -> Row:
        return self._step("one stream", 1, 128, 256, 0.85)

    def batch(self) -> Row:
        return self._step("64 streams", 64, 512, 128, 0.75)

    def beams(self) -> Row:
        sides = beams(self.side, prompts=4, prompt=512, width=8, tokens=64)
        return self._beside("beam search: 4 prompts of 512 tokens, width 8, 64 tokens", *sides)

    def few_shot(self) -> Row:
        sides = few_shot(self.side, ways=64, shared=1000, own=16, tokens=32)
        return self._beside("64 prompts on a shared 1,000 tokens, 32 tokens", *sides)

    def select(self) -> Row:
        sides = select(self.side, context=1000, questions=48, options=4, measured=16)
        name = "select: 48 questions × 4 options on a context of 1,000 tokens"
        return self._beside(name, *sides, scale=48 * 4 / 16)

    def _step(self, name: str, sequences: int, prompt: int, tokens: int, target: float) -> Row:
        taken, context = decode_steps(self.side, sequences, prompt, tokens)
        read = step_bytes(self.side.engine.core.model.shape, LLAMA_8B, context)
        row = self._of_copy(f"{name}, Llama-3.1-8B's shape, bfloat16", read, taken, target)
        return row | {"tokens_per_s": round(sequences / taken, 1)}

    def _of_copy(self, name: str, moved: int, taken: float, target: float) -> Row:
        return {
            "workload": name,
            "microseconds": round(taken * 1e6, 1),
            "bytes": moved,
            "of_copy_bandwidth": round(moved / taken / self.bandwidth, 3),
            "target": target,
        }

    def _beside(
        self, name: str, mine: Callable[[], object], theirs: Callable[[], object], scale: float = 1
    ) -> Row:
        """In turns, after a run of each that is not measured."""
        mine()
        theirs()
        pairs = [(seconds(mine, 1)[0], scale * seconds(theirs, 1)[0]) for _ in range(TURNS)]
        own, other = ([round(pair[side], 4) for pair in pairs] for side in range(2))
        return {
            "workload": name,
            "seconds_ours": own,
            "seconds_transformers": other,
            "ratio": round(median(other) / median(own), 2),
            "target": 5.0,
        }


MEASUREMENTS: dict[str, Callable[[Bench], Row]] = {
    "decode": Bench.decode,
    "forest": Bench.forest,
    "stream": Bench.stream,
    "batch": Bench.batch,
    "beams": Bench.beams,
    "few-shot": Bench.few_shot,
    "select": Bench.select,
}


def about(device: torch.device) -> dict[str, Any]:
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "memory": found.total_memory,
        "capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
    }


def line(row: Row) -> str:
    if "failed" in row:
        return f"[bold]{row['workload']}[/]: [red]failed[/]: {row['failed']}"
    facts = ", ".join(f"{name} {value}" for name, value in row.items() if name != "workload")
    return f"[bold]{row['workload']}[/]: {facts}"


def main() -> None:
    parser = argparse.ArgumentParser(description="ramet on a GPU")
    parser.add_argument("--json", type=Path, default=Path("bench/results/gpu.json"))
    parser.add_argument("--only", choices=MEASUREMENTS, help="one of them, no file")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: nothing is measured")
    device = torch.device("cuda", torch.cuda.current_device())
    console = Console(soft_wrap=True)
    bench = Bench(device)
    console.print(f"copy: {bench.bandwidth / 1e9:.0f} GB/s, read and written")
    rows: list[Row] = []
    for name, measure in MEASUREMENTS.items():
        if options.only in (None, name):
            try:
                rows.append(measure(bench))
            except Exception as error:  # the others are measured all the same
                rows.append({"workload": name, "failed": f"{type(error).__name__}: {error}"})
            console.print(line(rows[-1]), highlight=False)
    if options.only is None:
        write(
            options.json,
            "gpu",
            rows,
            device=about(device),
            copy_bytes_per_s=round(bench.bandwidth),
        )
    if any("failed" in row for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()

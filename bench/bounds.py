"""The most that the processor allows on the workloads of `peers.py`, and how near we are.

    python bench/bounds.py [--json bench/results/bounds.json] [--quick]

Counted is what our engine puts through the linear layers, with all that it shares: rows of each
step through every layer, and those that something is drawn from through the last one. A step takes
at least as long as these products take in registers (`ceilings.cpp`), or as reading all weights
once takes, whichever is longer. Attention, and all else, is taken to be free. What the targets
beside vLLM need is worked out from `bench/results/peers.json`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from linear import LAYERS, SHAPES
from machine import write
from rich.console import Console
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from ours import Ours
from workloads import Workload, workloads

from ramet.runtime.models import Model, PagedAttention
from ramet.runtime.tokenizer import Piece

FOLDER = Path(__file__).parent
BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0625}  # a weight; int8 has a scale for 64
WEIGHTS = LAYERS * sum(out * into for out, into in SHAPES.values())  # of SmolLM2-135M
LAST = 49_152 * 576  # and of the layer that gives its logits
TURNS = 3


@dataclass(frozen=True, slots=True)
class Step:
    rows: int
    drawn: int  # rows that something is drawn from


class Counted:
    """A model that notes its steps."""

    def __init__(self, model: Model, steps: list[Step]) -> None:
        self.shape = model.shape
        self._model = model
        self._steps = steps

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        self._steps.append(Step(len(tokens), len(rows)))
        return self._model.forward(tokens, positions, attention, rows)


def ceilings() -> dict[str, float]:
    """Operations a second by dtype, where the processor has them, and bytes a second as `read`."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/ceilings"
        source = str(FOLDER / "ceilings.cpp")
        build = ["c++", "-O3", "-march=native", "-pthread", source, "-o", program]
        subprocess.run(build, check=True)
        told = subprocess.run(
            [program, str(torch.get_num_threads())], check=True, capture_output=True, text=True
        ).stdout
    return {name: value for name, value in json.loads(told).items() if value is not None}


def least(steps: Sequence[Step], dtype: str, limit: Mapping[str, float]) -> float:
    """Seconds."""
    read = (WEIGHTS + LAST) * BYTES[dtype] / limit["read"]
    products = (2 * (step.rows * WEIGHTS + step.drawn * LAST) / limit[dtype] for step in steps)
    return sum(max(each, read) for each in products)


def needed(work: Workload, peers: Mapping[str, Any]) -> dict[str, float]:
    """A second, for the targets beside vLLM, by dtype."""
    row = peers.get(work.name, {"per_s": {}})
    best = max((v for k, v in row["per_s"].items() if k.startswith("vllm")), default=None)
    targets = {key.partition("/")[0]: t for key, t in work.targets.items() if key.endswith("/vllm")}
    return {} if best is None else {dtype: round(t * best, 2) for dtype, t in targets.items()}


def measure(dtype: str, quick: bool) -> Iterator[tuple[Workload, list[Step], float]]:
    """Each workload, the steps it took, and how much of it was done a second, at best."""
    steps: list[Step] = []
    ours = Ours(dtype, wrap=partial(Counted, steps=steps))

    def encode(text: str, start: bool) -> list[int]:
        return ours.tokenizer.encode([Piece(text)], start=start)

    for work in workloads(encode, quick):
        seconds = []
        for _ in range(1 if quick else TURNS):
            steps.clear()
            seconds.append(ours.run(work)[0])
        yield work, list(steps), work.count / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="what the processor allows, and how near we are")
    parser.add_argument("--json", type=Path, default=Path("bench/results/bounds.json"))
    parser.add_argument("--quick", action="store_true", help="smaller workloads, one turn, no file")
    options = parser.parse_args()

    console = Console()
    limit = ceilings()
    console.print(limit)
    found = FOLDER / "results" / "peers.json"
    peers = json.loads(found.read_text())["rows"] if found.exists() else []
    rows: dict[str, dict[str, Any]] = {}
    for dtype in (name for name in BYTES if name in limit):
        for work, steps, speed in measure(dtype, options.quick):
            row = rows.setdefault(work.name, {"workload": work.name, "unit": work.unit})
            row |= {"steps": len(steps), "rows": sum(step.rows for step in steps)}
            row["needed"] = needed(work, {each["workload"]: each for each in peers})
            most = row.setdefault("at_most", {})
            most[dtype] = round(work.count / least(steps, dtype, limit), 2)
            row.setdefault("per_s", {})[dtype] = round(speed, 2)
            console.print(
                f"{work.name}, {dtype}: {speed:.1f} {work.unit}/s, at most {most[dtype]:.1f}",
                highlight=False,
            )
    if not options.quick:
        write(options.json, "bounds", list(rows.values()), ceilings=limit)


if __name__ == "__main__":
    main()

"""Linear layers: ours in float32, bfloat16 and int8, beside oneDNN's and FBGEMM's.

    python bench/linear.py [--json bench/results/linear.json] [--quick]

The shapes are those of SmolLM2-135M, with weights of their own for each of its 30 layers, so that
no cache holds them from one pass to the next. In each turn every kind runs through all layers;
`gops` is billions of multiplications and additions a second, from the median turn. `ours, int8`
quantizes its input in groups of 64 and rotates them; `ours, bfloat16` takes float32, rounds it, and
gives float32, where oneDNN's takes and gives bfloat16; `fbgemm` is
`torch.ops.quantized.linear_dynamic`, with one scale for the whole batch; `torch` is
`F.linear`, which lays its weight out anew in each call; the others are packed once.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import median, seconds, write
from rich.console import Console
from torch import Tensor

from ramet.kernels import bfloat16, float32, int8
from ramet.runtime import EngineConfig
from ramet.runtime.models.linear import CompiledLinear, FloatLinear

SHAPES = {"qkv": (960, 576), "out": (576, 576), "gate_up": (3072, 576), "down": (576, 1536)}
BATCHES, LAYERS, TURNS = (1, 16, 32, 64, 256), 30, 7

Layer = Callable[[Tensor], Tensor]


def onednn_bfloat16(weight: Tensor) -> Layer:
    return FloatLinear(weight.bfloat16())


def fbgemm(weight: Tensor) -> Layer:
    """With a scale for each output."""
    scales = weight.abs().amax(1) / 127
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantized tensors are said to go
        whole = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(whole, None)
    return lambda x: torch.ops.quantized.linear_dynamic(x, packed)


KINDS: dict[str, Callable[[Tensor], Layer]] = {
    "ours, int8": partial(CompiledLinear, int8),
    "ours, bfloat16": partial(CompiledLinear, bfloat16),
    "ours, float32": partial(CompiledLinear, float32),
    "fbgemm, int8": fbgemm,
    "onednn, float32": FloatLinear,
    "torch, float32": lambda weight: partial(F.linear, weight=weight),
    "onednn, bfloat16": onednn_bfloat16,
}


def measure(batch: int, layers: dict[str, dict[str, list[Layer]]], turns: int) -> dict[str, object]:
    times: dict[str, dict[str, list[float]]] = {kind: {} for kind in layers}
    for turn in range(turns + 1):
        for kind, shapes in layers.items():
            for shape, each in shapes.items():
                x = torch.randn(batch, SHAPES[shape][1])
                x = x.bfloat16() if kind == "onednn, bfloat16" else x
                spent = seconds(lambda x=x, each=each: run(x, each), 1)
                if turn:
                    times[kind].setdefault(shape, []).extend(spent)
    work = {shape: 2 * batch * out * into * LAYERS for shape, (out, into) in SHAPES.items()}
    middle = {kind: {s: median(each) for s, each in found.items()} for kind, found in times.items()}
    return {
        "batch": batch,
        "gops": {
            kind: round(sum(work.values()) / sum(found.values()) / 1e9, 1)
            for kind, found in middle.items()
        },
        "gops_by_shape": {
            kind: {s: round(work[s] / spent / 1e9, 1) for s, spent in found.items()}
            for kind, found in middle.items()
        },
        "ms_of_all_layers": {
            kind: round(1e3 * sum(found.values()), 2) for kind, found in middle.items()
        },
    }


@torch.inference_mode()
def run(x: Tensor, layers: list[Layer]) -> None:
    for layer in layers:
        layer(x)


def main() -> None:
    parser = argparse.ArgumentParser(description="linear layers in int8 and otherwise")
    parser.add_argument("--json", type=Path, default=Path("bench/results/linear.json"))
    parser.add_argument("--quick", action="store_true", help="two turns, no file")
    options = parser.parse_args()

    assert int8.available(EngineConfig().models / "kernels"), "int8 needs a compiler"
    torch.backends.quantized.engine = "fbgemm"
    torch.manual_seed(0)
    layers = {
        kind: {
            name: [make(torch.randn(shape) / shape[1] ** 0.5) for _ in range(LAYERS)]
            for name, shape in SHAPES.items()
        }
        for kind, make in KINDS.items()
    }
    console = Console()
    rows: list[dict[str, object]] = []
    for batch in BATCHES:
        rows.append(measure(batch, layers, 2 if options.quick else TURNS))
        console.print(f"batch {batch}: GOP/s {rows[-1]['gops']}", highlight=False)
    if not options.quick:
        write(options.json, "linear", rows)


if __name__ == "__main__":
    main()

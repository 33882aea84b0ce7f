"""Compiles the kernels for GPUs that need not be there, and says what the compiler made of them.

    python -m tests.kernels.gpu.compiling 90 all

A process of its own, without triton's interpreter. Prints one line a kernel: what it is, and the
bytes that a thread spills to memory.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ramet.kernels.gpu import attention, copies, merge, write
from ramet.kernels.gpu.attention import tile_of
from ramet.kernels.gpu.runs import ITEM_FIELDS, NARROW, ROW_FIELDS

NAMES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}
OBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"

Source = tuple[str, Any, dict[str, str], dict[str, Any], dict[str, int]]


def sources(architecture: int, everything: bool) -> Iterator[Source]:
    """Every kernel; of attention, every size of program and everything that can be switched on."""
    float8 = architecture >= 89  # older ones have no such numbers
    yield attention_source(torch.bfloat16, "*bf16", 128, attention.MOST_LANES, trees=True)
    yield from other_sources(float8)
    if not everything:
        return
    for dim in (64, 128):
        for lanes in (NARROW, attention.MOST_LANES_FLOAT32):
            yield attention_source(torch.float32, "*fp32", dim, lanes, trees=lanes != NARROW)
        yield attention_source(torch.bfloat16, "*bf16", dim, NARROW)
    yield attention_source(torch.float16, "*fp16", 80, attention.MOST_LANES, window=True, cap=True)
    if float8:
        yield attention_source(torch.bfloat16, "*fp8e4nv", 128, NARROW)


def attention_source(
    dtype: torch.dtype,
    cache: str,
    dim: int,
    lanes: int,
    *,
    trees: bool = False,
    window: bool = False,
    cap: bool = False,
) -> Source:
    tile = tile_of(lanes, dim, dtype)
    types = {
        "out_ptr": NAMES[dtype],
        "query_ptr": NAMES[dtype],
        "key_ptr": cache,
        "value_ptr": cache,
        "partial_ptr": "*fp32",
        "sums_ptr": "*fp32",
        "scale": "fp32",
        "softcap": "fp32",
    }
    constants = {
        "GROUPS": 4,
        "HEAD_DIM": dim,
        "BLOCK_SIZE": 16,
        "BLOCK_M": tile.lanes,
        "BLOCK_N": tile.keys,
        "BLOCK_D": tile.dim,
        "WINDOWED": window,
        "CAPPED": cap,
        "TREES": trees,
        "ITEM": ITEM_FIELDS,
        "ROW": ROW_FIELDS,
    }
    options = {"num_warps": tile.warps, "num_stages": 2}
    name = f"attend {cache[1:]} {dim} {tile.lanes}"
    return name, attention._attend_kernel, types, constants, options


def other_sources(float8: bool) -> Iterator[Source]:
    cache, largest = ("*fp8e4nv", 448.0) if float8 else ("*bf16", 0.0)
    types = {"data_ptr": cache, "key_ptr": "*bf16", "value_ptr": "*bf16"}
    sizes = {"HEAD_DIM": 128, "LARGEST": largest, "BLOCK_H": 8, "BLOCK_D": 128}
    yield f"write {cache[1:]}", write._write_kernel, types, sizes, {}
    yield "copy", copies._copy_kernel, {"data_ptr": "*i16"}, {"FIELDS": 3, "CHUNK": 1024}, {}
    types = {"out_ptr": "*bf16", "partial_ptr": "*fp32", "sums_ptr": "*fp32"}
    yield "merge", merge._merge_kernel, types, {"HEAD_DIM": 128, "BLOCK_P": 16, "BLOCK_D": 128}, {}


def spilled(source: Source, architecture: int) -> int:
    """Bytes of a thread's stack."""
    _, kernel, types, constants, options = source
    names = kernel.arg_names
    signature = {name: types.get(name, _default(name)) for name in names}
    signature |= dict.fromkeys(constants, "constexpr")
    aligned = [i for i, name in enumerate(names) if name.startswith("stride") or "_ptr" in name]
    made = triton.compile(
        ASTSource(
            kernel,
            signature,
            {(names.index(name),): value for name, value in constants.items()},
            {(place,): [["tt.divisibility", 16]] for place in aligned},
        ),
        target=GPUTarget("cuda", architecture, 32),
        options=options,
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        told = subprocess.run(
            [OBJDUMP, "--dump-resource-usage", file.name],
            capture_output=True,
            text=True,
            check=True,
        )
    return int(re.findall(r"STACK:(\d+)", told.stdout)[-1])


def _default(name: str) -> str:
    return "*i32" if name.endswith("_ptr") else "i32"


def main() -> None:
    architecture, everything = int(sys.argv[1]), "all" in sys.argv
    for source in sources(architecture, everything):
        print(f"{source[0]}: {spilled(source, architecture)}")


if __name__ == "__main__":
    main()

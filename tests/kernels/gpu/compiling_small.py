"""Compiles the kernels of sampling and the small ones of a layer, as `compiling` does the others.

python -m tests.kernels.gpu.compiling_small 80 90
"""

import sys
from collections.abc import Iterator
from typing import Any

from ramet.kernels.gpu import argmax, gate, noise, norm, nucleus, penalties, race, rotary
from tests.kernels.gpu.compiling import Source, spilled

VOCAB = 128_256


def sources(float8: bool) -> Iterator[Source]:
    floats = "logits peaks clocks temperatures values top_p below x cos sin"
    types = dict.fromkeys(floats.split(), "*fp32")
    types |= dict.fromkeys("bounds ids which ends tokens top_k places".split(), "*i32")
    half = "weight result gate_up joined query query_weight key_weight"
    types |= dict.fromkeys(half.split(), "*bf16") | {"eps": "fp32"}

    def source(name: str, kernel: Any, warps: int, own: dict[str, str], **sizes: object) -> Source:
        known = {each: types[each] for each in kernel.arg_names if each in types}
        return name, kernel, known | own, sizes, {"num_warps": warps}

    yield source("argmax", argmax._argmax, 8, {}, SIZE=VOCAB, BLOCK=4096)
    wide = {"places": "*i64", "noise": "*fp32"}
    yield source("exponentials", noise._exponentials, 4, wide, BLOCK=512)
    yield source("penalise", penalties._penalise, 4, {}, BLOCK=1024)
    masks = {"masks": "*u8"}
    yield source("rule out", penalties._rule_out, 8, masks, SIZE=VOCAB, BLOCK=4096)
    yield source("keep", nucleus._keep, 8, {}, SIZE=VOCAB, BLOCK=4096)
    count = -(-VOCAB // race.GROUP)
    sizes = {"SIZE": VOCAB, "COUNT": count, "GROUPS": 64, "GROUP": race.GROUP}
    yield source("race", race._race, 8, {}, **sizes)
    yield source("norm", norm._rms_norm, 8, {"x": "*bf16"}, DIM=4096, BLOCK=4096)
    yield source("gate", gate._gated, 4, {}, BLOCK=1024)
    cache, largest = ("*fp8e4nv", 448.0) if float8 else ("*bf16", 0.0)
    for normed in (False, True):
        own = {"data": cache, "slots": "*i32"}
        sizes = {"HEADS": 32, "KV_HEADS": 8, "HALF": 64, "BLOCK": 64}
        sizes |= {"NORMED": normed, "LARGEST": largest}
        yield source(f"rotate {normed}", rotary._rotate_and_write, 1, own, **sizes)


def main() -> None:
    for architecture in map(int, sys.argv[1:]):
        for source in sources(float8=architecture >= 89):
            print(f"sm_{architecture} {source[0]}: {spilled(source, architecture)}", flush=True)


if __name__ == "__main__":
    main()

"""What int8 and bfloat16 cost in quality: SmolLM2-135M against itself in float32, on the same text.

    python bench/quality.py [--json bench/results/quality.json] [--tokens 8192]

The text is that of Python's own manual, as `pydoc` carries it, in pieces of 512 tokens. `agreement`
is the share of places where both find the same token likeliest; `perplexity_ratio` is exp of the
mean rise of the loss. The first two rows are what is built; the others are other ways to quantize
linear layers, imitated in float32: what goes in and the weights are rounded to what int8 could
hold.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics

import torch
from machine import write
from rich.console import Console
from torch import Tensor

from ramet.kernels import KVCache, Step, backend_for
from ramet.runtime import EngineConfig
from ramet.runtime.models import Model, PagedAttention, load_model
from ramet.runtime.models.config import DecoderConfig
from ramet.runtime.models.linear import FloatLinear
from ramet.runtime.models.llama import LlamaDecoder
from ramet.runtime.models.weights import Checkpoint
from ramet.runtime.runner import layout_of
from ramet.runtime.tokenizer import Piece, Tokenizer

PIECE, BLOCK = 512, 16
AGREEMENT, RATIO = 0.97, 1.02  # at least, at most


@dataclass(frozen=True, slots=True)
class Scheme:
    """How to quantize: numbers that share a scale, numbers that a rotation mixes, and what of a
    layer it is done to."""

    name: str
    group: int
    rotated: int = 0
    weights: bool = True
    inputs: bool = True

    def rounded(self, x: Tensor) -> Tensor:
        """`x` as int8 would have it, in float32; the last dimension is the one that is summed."""
        turn = hadamard(self.rotated) if self.rotated else None
        turned = x if turn is None else (x.unflatten(-1, (-1, self.rotated)) @ turn).flatten(-2)
        groups = turned.unflatten(-1, (-1, self.group))
        scales = groups.abs().amax(-1, keepdim=True) / 127
        whole = (groups / scales.where(scales > 0, 1)).round() * scales
        back = whole.flatten(-2)
        return back if turn is None else (back.unflatten(-1, (-1, self.rotated)) @ turn).flatten(-2)


SCHEMES = [
    Scheme("groups of 64", 64),
    Scheme("groups of 32", 32),
    Scheme("groups of 16", 16),
    Scheme("groups of 64, weights alone", 64, inputs=False),
    Scheme("groups of 64, inputs alone", 64, weights=False),
    Scheme("groups of 64, rotated", 64, rotated=64),
    Scheme("groups of 32, rotated by 64", 32, rotated=64),
]


class Imitation(FloatLinear):
    """A layer in float32 that computes what one in int8 would."""

    def __init__(self, scheme: Scheme, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(scheme.rounded(weight) if scheme.weights else weight, bias)
        self._scheme = scheme

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(self._scheme.rounded(x) if self._scheme.inputs else x)

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        return super().added_to(residual, self._scheme.rounded(x) if self._scheme.inputs else x)


def hadamard(size: int) -> Tensor:
    """Sylvester's orthogonal matrix."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(matrix, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    return matrix / size**0.5


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model makes of the text."""

    likeliest: Tensor  # [places], int64
    loss: float  # mean, in nats


def read(model: Model, pieces: list[list[int]]) -> Reading:
    likeliest: list[Tensor] = []
    loss = 0.0
    for piece in pieces:
        found = logits(model, piece)[:-1]
        likeliest.append(found.argmax(-1))
        target = torch.tensor(piece[1:])[:, None]
        loss -= found.log_softmax(-1).gather(1, target).double().sum().item()
    places = torch.cat(likeliest)
    return Reading(places, loss / len(places))


def logits(model: Model, tokens: list[int]) -> Tensor:
    """`[tokens, vocab]` of one text, in one step."""
    blocks = -(-len(tokens) // BLOCK)
    places = torch.arange(len(tokens))
    step = Step(
        query_starts=torch.tensor([0, len(tokens)]),
        contexts=torch.tensor([len(tokens)]),
        block_tables=torch.arange(blocks)[None],
        slots=places,
    )
    backend = backend_for(KVCache(layout_of(model.shape, blocks, BLOCK)))
    attention = PagedAttention(backend, backend.plan(step))
    return model.forward(torch.tensor(tokens), places, attention, places)


def variants(float32: Model, directory: Path) -> Iterator[tuple[str, Callable[[], Model]]]:
    """The model in int8 and bfloat16, and the imitations, each to be made when its turn comes."""
    cache = EngineConfig().models
    for dtype in ("int8", "bfloat16"):
        yield f"{dtype}, as built", partial(_built, dtype, cache)
    config = DecoderConfig.from_dict(json.loads((directory / "config.json").read_text()))
    weights = Checkpoint(directory, torch.float32)
    for scheme in SCHEMES:
        make = partial(Imitation, scheme)
        yield scheme.name, partial(LlamaDecoder, config, float32.shape, weights, make)


def _built(dtype: str, cache: Path) -> Model:
    return load_model("smollm2-135m", dtype=dtype, cache=cache)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="the quality of int8 and bfloat16")
    parser.add_argument("--json", type=Path, default=Path("bench/results/quality.json"))
    parser.add_argument("--tokens", type=int, default=8192)
    options = parser.parse_args()

    cache = EngineConfig().models
    float32, directory = load_model("smollm2-135m", dtype="float32", cache=cache)
    text = "\n".join(topics[name] for name in sorted(topics))
    tokens = Tokenizer.load(directory).encode([Piece(text)], start=False)[: options.tokens]
    whole = len(tokens) - len(tokens) % PIECE
    pieces = [tokens[start : start + PIECE] for start in range(0, whole, PIECE)]
    exact = read(float32, pieces)
    console = Console()
    rows: list[dict[str, object]] = []
    for name, make in variants(float32, directory):
        found = read(make(), pieces)
        agreement = (found.likeliest == exact.likeliest).double().mean().item()
        row: dict[str, object] = {
            "variant": name,
            "tokens": len(exact.likeliest),
            "agreement": round(agreement, 4),
            "perplexity": round(math.exp(exact.loss), 3),
            "perplexity_ratio": round(math.exp(found.loss - exact.loss), 4),
        }
        if not rows:
            row |= {"agreement_target": AGREEMENT, "perplexity_ratio_target": RATIO}
        console.print(
            f"{name}: [bold]{row['agreement']:.2%}[/] of the likeliest tokens agree, perplexity "
            f"[bold]{row['perplexity_ratio']}×[/] that of float32",
            highlight=False,
        )
        rows.append(row)
    write(options.json, "quality", rows)


if __name__ == "__main__":
    main()

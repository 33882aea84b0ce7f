"""What int8 costs in quality: SmolLM2-135M in int8 against itself in float32, on the same text.

    python bench/quality.py [--json bench/results/quality.json] [--tokens 8192]

The text is that of Python's own manual, as `pydoc` carries it, in pieces of 512 tokens. `agreement`
is the share of places where both find the same token likeliest; `perplexity_ratio` is exp of the
mean rise of the loss.
"""

import argparse
import math
from pathlib import Path
from pydoc_data.topics import topics

import torch
from machine import write
from rich.console import Console
from torch import Tensor

from ramet.kernels import KVCache, KVLayout, Step, backend_for
from ramet.runtime import EngineConfig
from ramet.runtime.models import Model, PagedAttention, load_model
from ramet.runtime.tokenizer import Piece, Tokenizer

PIECE, BLOCK = 512, 16
AGREEMENT, RATIO = 0.97, 1.02  # at least, at most


def logits(model: Model, tokens: list[int]) -> Tensor:
    """`[tokens, vocab]` of one text, in one step."""
    shape = model.shape
    blocks = -(-len(tokens) // BLOCK)
    layout = KVLayout(
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        num_blocks=blocks,
        block_size=BLOCK,
        dtype=shape.dtype,
    )
    places = torch.arange(len(tokens))
    step = Step(
        query_starts=torch.tensor([0, len(tokens)]),
        contexts=torch.tensor([len(tokens)]),
        block_tables=torch.arange(blocks)[None],
        slots=places,
    )
    backend = backend_for(KVCache(layout))
    attention = PagedAttention(backend, backend.plan(step))
    return model.forward(torch.tensor(tokens), places, attention, places)


def main() -> None:
    parser = argparse.ArgumentParser(description="the quality of int8")
    parser.add_argument("--json", type=Path, default=Path("bench/results/quality.json"))
    parser.add_argument("--tokens", type=int, default=8192)
    options = parser.parse_args()

    cache = EngineConfig().models
    float32, directory = load_model("smollm2-135m", dtype="float32", cache=cache)
    int8, _ = load_model("smollm2-135m", dtype="int8", cache=cache)
    text = "\n".join(topics[name] for name in sorted(topics))
    tokens = Tokenizer.load(directory).encode([Piece(text)], start=False)[: options.tokens]
    same, rise, loss, count = 0, 0.0, 0.0, 0
    for start in range(0, len(tokens) - PIECE + 1, PIECE):
        piece = tokens[start : start + PIECE]
        ours, exact = (logits(model, piece)[:-1] for model in (int8, float32))
        target = torch.tensor(piece[1:])[:, None]
        losses = [-x.log_softmax(-1).gather(1, target).sum().item() for x in (ours, exact)]
        same += int((ours.argmax(-1) == exact.argmax(-1)).sum())
        rise += losses[0] - losses[1]
        loss += losses[1]
        count += len(target)
    row: dict[str, object] = {
        "tokens": count,
        "agreement": round(same / count, 4),
        "agreement_target": AGREEMENT,
        "perplexity": round(math.exp(loss / count), 3),
        "perplexity_ratio": round(math.exp(rise / count), 4),
        "perplexity_ratio_target": RATIO,
    }
    Console().print(
        f"int8 on {count} tokens: [bold]{row['agreement']:.2%}[/] of the likeliest tokens agree "
        f"(at least {AGREEMENT:.0%}), perplexity [bold]{row['perplexity_ratio']}×[/] that of "
        f"float32, {row['perplexity']} (at most {RATIO})",
        highlight=False,
    )
    write(options.json, "quality", [row])


if __name__ == "__main__":
    main()

"""transformers' continuous batching behind a pipe, in an environment of its own.

    python continuous_worker.py MODEL_DIRECTORY DTYPE THREADS

A round is one call of `generate_batch`, with blocks shared as it does by default; samples are
requests beside each other. It offers neither beams, nor scores of a given text, nor a schema.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from protocol import Ids, NotOffered, Work, by_rounds, serve
from transformers import (  # pyright: ignore[reportMissingImports]
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
)

PAGE, SPARE = 32, 512  # tokens of a page; pages beyond what the contexts need
LACKS = {
    "beams": "continuous batching has no beam search",
    "score": "continuous batching scores no text that is given",
    "json": "transformers has no decoding by a schema",
}


def load() -> Callable[[Work], Callable[[], list[Ids]]]:
    torch.set_num_threads(int(sys.argv[3]))
    model: Any = AutoModelForCausalLM.from_pretrained(
        sys.argv[1], dtype=sys.argv[2], attn_implementation="sdpa"
    ).eval()

    def prepare(work: Work) -> Callable[[], list[Ids]]:
        if work["kind"] in LACKS:
            raise NotOffered(LACKS[work["kind"]])
        return lambda: by_rounds(work, partial(generate, model, work))

    return prepare


def generate(model: Any, work: Work, contexts: list[Ids]) -> list[Ids]:
    """New tokens of one batch; of samples, those of all of them."""
    wide = work["width"] if work["kind"] == "sample" else 1
    drawing = {"do_sample": True, "temperature": 0.8} if wide > 1 else {"do_sample": False}
    settings = GenerationConfig(
        max_new_tokens=work["tokens"], eos_token_id=-1, pad_token_id=0, **drawing
    )
    asked = [ids for ids in contexts for _ in range(wide)]
    pages = sum(-(-(len(ids) + work["tokens"]) // PAGE) for ids in asked)
    batching = ContinuousBatchingConfig(
        page_size=PAGE, num_blocks=pages + SPARE, max_batch_tokens=2048
    )
    found = model.generate_batch(
        asked, generation_config=settings, continuous_batching_config=batching, warmup=False
    )
    new = [
        found[name].generated_tokens for name in sorted(found, key=lambda n: int(n.split("_")[-1]))
    ]
    return [[t for text in new[at : at + wide] for t in text] for at in range(0, len(new), wide)]


if __name__ == "__main__":
    serve(load, ("transformers", "torch"))

"""transformers' continuous batching behind a pipe, in an environment of its own.

    python continuous_worker.py MODEL_DIRECTORY DTYPE THREADS

A round is one call of `generate_batch`, with blocks shared as it does by default, and kept from one
round to the next. It offers neither beams, nor scores of a given text, nor a schema.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from protocol import Ids, NotOffered, Work, by_rounds, requests, serve
from transformers import (  # pyright: ignore[reportMissingImports]
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
)

PAGE = 32  # tokens
LACKS = {
    "beams": "continuous batching has no beam search",
    "score": "continuous batching scores no text that is given",
    "steps": "continuous batching scores no text that is given",
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
        if hasattr(model, "_cached_continuous_batching_manager"):
            model.destroy_cached_continuous_batching_manager()
        return lambda: by_rounds(work, partial(generate, model, work))

    return prepare


def generate(model: Any, work: Work, contexts: list[Ids]) -> list[Ids]:
    """New tokens of one batch; of samples, those of all of them."""
    wide = work["width"] if work["kind"] == "sample" else 1
    drawing = {"do_sample": True, "temperature": 0.8} if wide > 1 else {"do_sample": False}
    found = model.generate_batch(
        contexts,
        generation_config=GenerationConfig(
            max_new_tokens=work["tokens"],
            num_return_sequences=wide,
            eos_token_id=-1,
            pad_token_id=0,
            **drawing,
        ),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=PAGE, num_blocks=pages(work, wide), max_batch_tokens=2048
        ),
        persistent_manager=True,
        warmup=False,
    )
    new = [each.generated_tokens for each in found.values()]
    return [[t for text in new[at : at + wide] for t in text] for at in range(0, len(new), wide)]


def pages(work: Work, wide: int) -> int:
    """Enough for all texts of all rounds, were nothing shared."""
    longest = sum(
        max(len(request["ids"]) for request in batch) + work["tokens"] for batch in work["rounds"]
    )
    return len(requests(work)) * wide * (1 + longest // PAGE)


if __name__ == "__main__":
    serve(load, ("transformers", "torch"))

"""transformers' `generate` behind a pipe, in an environment of its own.

    python transformers_worker.py MODEL_DIRECTORY DTYPE THREADS

A round is one left-padded batch. What all contexts of it begin with is computed once and its cache
repeated for the batch, as transformers' page on caching has it; a later round computes its contexts
anew. An option is scored in a forward pass behind such a cache, the options of a question together.
It has no decoding by a schema.
"""

import copy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from protocol import Ids, NotOffered, Work, by_rounds, requests, serve, shared
from transformers import (  # pyright: ignore[reportMissingImports]
    AutoModelForCausalLM,
    DynamicCache,
)

LEAST = 64  # tokens in common that are worth a cache of their own


def load() -> Callable[[Work], Callable[[], list[Ids]]]:
    torch.set_num_threads(int(sys.argv[3]))
    model: Any = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=sys.argv[2]).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0

    def prepare(work: Work) -> Callable[[], list[Ids]]:
        if work["kind"] == "steps":
            raise NotOffered("it scores options as in select")
        if work["kind"] == "json":
            raise NotOffered("transformers has no decoding by a schema")
        if work["kind"] == "score":
            return partial(score, model, work)
        settings: dict[str, Any] = {"do_sample": False}
        if work["kind"] == "sample":
            settings = {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 1.0}
        if work["kind"] == "beams":
            settings["num_beams"] = work["width"]
        beside = work["width"] if work["kind"] == "sample" else 1
        return lambda: by_rounds(work, partial(generate, model, work["tokens"], beside, settings))

    return prepare


@torch.inference_mode()
def generate(
    model: Any, tokens: int, beside: int, settings: dict[str, Any], contexts: list[Ids]
) -> list[Ids]:
    """New tokens of one batch, in which each context stands `beside` times."""
    contexts = [ids for ids in contexts for _ in range(beside)]
    common = shared(contexts) if len(contexts) > 1 and "num_beams" not in settings else 0
    common = common if common >= LEAST else 0
    longest = max(map(len, contexts))
    pads = [longest - len(each) for each in contexts]
    ids = [
        each[:common] + [0] * pad + each[common:] for pad, each in zip(pads, contexts, strict=True)
    ]
    mask = [[1] * common + [0] * pad + [1] * (longest - common - pad) for pad in pads]
    if common:
        cache = prefix(model, contexts[0][:common])
        cache.batch_repeat_interleave(len(contexts))
        settings = settings | {"past_key_values": cache}
    out = model.generate(
        torch.tensor(ids),
        attention_mask=torch.tensor(mask),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        **settings,
    )
    new = out[:, longest:].tolist()
    return [
        [t for text in new[at : at + beside] for t in text] for at in range(0, len(new), beside)
    ]


@torch.inference_mode()
def score(model: Any, work: Work) -> list[Ids]:
    """The likeliest option of each request by mean log-probability."""
    asked = requests(work)
    common = shared([request["ids"] for request in asked])
    start = prefix(model, asked[0]["ids"][:common])
    chosen: list[Ids] = []
    for request in asked:
        options = request["option_ids"]
        own = request["ids"][common:]
        longest = max(map(len, options))
        cache = copy.deepcopy(start)
        cache.batch_repeat_interleave(len(options))
        ids = [own + option + [0] * (longest - len(option)) for option in options]
        out = model(torch.tensor(ids), past_key_values=cache, logits_to_keep=longest + 1)
        logprobs = out.logits.float().log_softmax(-1)
        means = [
            float(row[torch.arange(len(option)), torch.tensor(option)].mean())
            for row, option in zip(logprobs, options, strict=True)
        ]
        chosen.append([means.index(max(means))])
    return chosen


def prefix(model: Any, ids: Ids) -> Any:
    """The cache of those tokens."""
    cache = DynamicCache(config=model.config)
    model(torch.tensor([ids]), past_key_values=cache, logits_to_keep=1)
    return cache


if __name__ == "__main__":
    serve(load, ("transformers", "torch"))

"""Runs a model over a varlen batch as the runner does, without scheduler, cache or sampler."""

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ramet.kernels import Backend, KVCache, Step, backend_for
from ramet.runtime.models import Model, PagedAttention
from ramet.runtime.runner import layout_of


def paged_logits(
    model: Model, texts: Sequence[Sequence[int]], *, block_size: int, seed: int
) -> list[Tensor]:
    """Logits `[tokens, vocab]` of each text, in two steps that cut every text somewhere.

    The batch so has prompts, rests of prompts and single tokens side by side. Blocks are handed
    out in random order, and what no text owns is NaN.
    """
    rng = random.Random(seed)
    needed = [-(-len(text) // block_size) for text in texts]
    order = rng.sample(range(sum(needed) + 3), sum(needed) + 3)
    tables = np.full((len(texts), max(needed)), -1, np.int64)
    for row, count in enumerate(needed):
        tables[row, :count] = [order.pop() for _ in range(count)]
    backend = _backend(model, len(order) + sum(needed), block_size)
    cuts = [rng.choice((0, len(text) - 1, rng.randrange(len(text)))) for text in texts]
    first = _run(model, backend, texts, tables, [0] * len(texts), cuts)
    second = _run(model, backend, texts, tables, cuts, [len(text) for text in texts])
    return [torch.cat(parts) for parts in zip(first, second, strict=True)]


def _backend(model: Model, blocks: int, block_size: int) -> Backend:
    cache = KVCache(layout_of(model.shape, blocks, block_size))
    cache.data[:, :, :, : cache.null_slot] = float("nan")
    return backend_for(cache)


def _run(
    model: Model,
    backend: Backend,
    texts: Sequence[Sequence[int]],
    tables: np.ndarray,
    starts: Sequence[int],
    ends: Sequence[int],
) -> list[Tensor]:
    """Logits of tokens `starts[i] … ends[i]` of each text; texts without any are left out."""
    size = backend.cache.layout.block_size
    there = [row for row in range(len(texts)) if ends[row] > starts[row]]
    counts = [ends[row] - starts[row] for row in there]
    places = [np.arange(starts[row], ends[row]) for row in there]
    slots = [
        tables[row, place // size] * size + place % size
        for row, place in zip(there, places, strict=True)
    ]
    step = Step(
        query_starts=torch.from_numpy(np.cumsum([0, *counts])),
        contexts=torch.tensor([ends[row] for row in there]),
        block_tables=torch.from_numpy(tables[there]),
        slots=torch.from_numpy(np.concatenate(slots)),
    )
    tokens = [token for row in there for token in texts[row][starts[row] : ends[row]]]
    logits = model.forward(
        torch.tensor(tokens),
        torch.from_numpy(np.concatenate(places)),
        PagedAttention(backend, backend.plan(step)),
        torch.arange(len(tokens)),
    )
    parts = dict(zip(there, logits.split(counts), strict=True))
    return [parts.get(row, logits[:0]) for row in range(len(texts))]

"""The draw where the logits are: one buffer goes there, a few kernels run, one tensor comes back.

What `sampler.py` and `processors.py` do with torch on a CPU, with the kernels of
`ramet.kernels.gpu`: the same tokens for the same seeds, but where rounding decides. Nothing between
the two copies waits for the device, and no kernel starts that no row asks for. Knows rows and
logits. Knows no sequence, no text and no request.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramet.kernels.gpu.argmax import argmax
from ramet.kernels.gpu.nucleus import keep
from ramet.kernels.gpu.penalties import penalise, rule_out
from ramet.kernels.gpu.race import race
from ramet.params import MAX_LOGPROBS, SamplingParams
from ramet.runtime.sampling.packing import Asked
from ramet.runtime.sampling.processors import Rows
from ramet.runtime.sampling.sampler import Draw, draw_of


@torch.inference_mode()
def sample(logits: Tensor, rows: Rows, positions: Sequence[int]) -> list[Draw]:
    """One draw for each of logits [R, V], as `Sampler.sample`."""
    logits = logits.float()
    asking = [row for row in rows if row.params.logprobs is not None]
    plain = all(row.plain for row in rows)
    peaks, tokens = argmax(logits)
    if plain and not asking:
        return _draws(_back(tokens, peaks, peaks), len(rows))
    asked = Asked.of(rows, positions, logits.shape[-1]).on(logits.device)
    own = logits.index_select(0, asked.logprobs).log_softmax(-1)
    left, tokens = (peaks, tokens) if plain else _choose(logits, rows, asked)
    likely = own.topk(min(MAX_LOGPROBS, own.shape[-1]))
    mine = own.gather(1, tokens.long().index_select(0, asked.logprobs)[:, None])
    back = _back(tokens, peaks, left, mine, likely.values, likely.indices.int())
    draws = _draws(back, len(rows))
    return _told(draws, rows, back[3 * len(rows) :]) if asking else draws


def _choose(logits: Tensor, rows: Rows, asked: Asked) -> tuple[Tensor, Tensor]:
    """The largest of what the processors leave of each row [R], and the tokens drawn [R]."""
    sampled = [row.params for row in rows if not row.greedy]
    if asked.ids.numel():
        penalise(logits, asked.bounds, asked.ids, asked.values)
    if asked.masks.numel() or any(each.temperature != 1 for each in sampled):
        rule_out(logits, asked.masks, asked.which, asked.ends, asked.temperatures)
    peaks, tokens = argmax(logits)
    if any(map(_narrows, sampled)):
        keep(logits, peaks, asked.top_k, asked.top_p, asked.below)
    if sampled:
        race(logits, peaks, asked.places, asked.temperatures, tokens)
    return peaks, tokens


def _narrows(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


def _back(*parts: Tensor) -> NDArray[np.int32]:
    """The parts, all of four bytes, one after the other on the host. This waits for the device."""
    return torch.cat([part.flatten().view(torch.int32) for part in parts]).cpu().numpy()


def _draws(back: NDArray[np.int32], rows: int) -> list[Draw]:
    """From the tokens, the largest logits, and the largest that are left."""
    tokens, *peaks = back[: 3 * rows].reshape(3, rows)
    sound, left = (np.isfinite(each.view(np.float32)).tolist() for each in peaks)
    return list(map(draw_of, tokens.tolist(), sound, left))


def _told(draws: list[Draw], rows: Rows, back: NDArray[np.int32]) -> list[Draw]:
    """The draws, with log-probabilities where they were asked for and something was drawn."""
    asked = [i for i, row in enumerate(rows) if row.params.logprobs is not None]
    own = back[: len(asked)].view(np.float32)
    values, ids = back[len(asked) :].reshape(2, len(asked), -1)
    columns = zip(asked, own.tolist(), values.view(np.float32).tolist(), ids.tolist(), strict=True)
    for i, logprob, logprobs, tokens in columns:
        if draws[i].error is None:
            top = tuple(zip(tokens, logprobs, strict=True))[: rows[i].params.logprobs]
            draws[i] = Draw(draws[i].token, logprob, top)
    return draws

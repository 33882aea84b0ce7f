"""The draw: one token for each row of logits.

Knows rows and logits. Knows no sequence, no text and no request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ramet.params import MAX_LOGPROBS
from ramet.runtime.errors import RuledOut, SamplingError
from ramet.runtime.sampling.keys import noise
from ramet.runtime.sampling.processors import PROCESSORS, Rows, take

# Tokens that race together: near the square root of a vocabulary, so that the noise is least.
# Swept at R=32, V=49152 on two CPU cores: groups of 16 take 1.2 ms, 64 0.8, 256 0.7, 1024 0.8,
# one race of all 7.8.
_GROUP = 64
_UNSOUND = "the model gave no token to draw: its logits hold NaN or infinity, or are all masked"
_ALL_MASKED = (
    "every token is ruled out: by allowed_tokens, logit_bias, min_tokens, the type or the model"
)


@dataclass(frozen=True, slots=True)
class Draw:
    """What was drawn for one row; with an `error` nothing was, and `token` says nothing."""

    token: int
    logprob: float | None = None  # of the token, where the row asks for it
    top: tuple[tuple[int, float], ...] = ()  # (id, log-probability) of the likeliest, in order
    error: SamplingError | None = None


class Best(NamedTuple):
    """The first largest entry of each row; a NaN counts as the largest."""

    tokens: list[int]
    sound: list[bool]  # whether it is finite


class Sampler:
    """Draws for a batch. It has no state: a row gets what it would get alone."""

    @torch.inference_mode()
    def sample(self, logits: Tensor, rows: Rows, positions: Sequence[int]) -> list[Draw]:
        """One draw for each of logits [R, V] at the rows' positions [R]. The logits are used up:
        float32 ones are changed in place.

        Log-probabilities are those of the model: of the logits before any processor. A row whose
        logits hold NaN or +inf, or that has no token left, gets a `SamplingError` in its draw.
        Logits on a CUDA device are drawn there.
        """
        assert len(logits) == len(rows) == len(positions), "one row and one position for each line"
        if logits.is_cuda:
            from ramet.runtime.sampling import device

            return device.sample(logits, rows, positions)
        logits = logits.float()
        best = _best(logits)
        raw = _Logprobs.of(logits, rows)
        drawn = best if all(row.plain for row in rows) else _choose(logits, rows, positions)
        draws = [
            draw_of(token, sound, left)
            for token, sound, left in zip(drawn.tokens, best.sound, drawn.sound, strict=True)
        ]
        return draws if raw is None else raw.told(draws, rows)


def draw_of(token: int, sound: bool, left: bool) -> Draw:
    """The draw of a token, if the model's logits are sound and the processors left any."""
    if sound and left:
        return Draw(token)
    return Draw(-1, error=RuledOut(_ALL_MASKED) if sound else SamplingError(_UNSOUND))


def _choose(logits: Tensor, rows: Rows, positions: Sequence[int]) -> Best:
    """The tokens drawn from logits [R, V], which are used up; not sound where none is left."""
    for process in PROCESSORS:
        process(logits, rows)
    best = _best(logits)
    index = [i for i, row in enumerate(rows) if best.sound[i] and not row.greedy]
    if index:
        probabilities = take(logits, index).softmax(-1)
        won = _race(probabilities, [(rows[i].key, positions[i], rows[i].attempt) for i in index])
        for i, token in zip(index, won, strict=True):
            best.tokens[i] = token
    return best


def _race(probabilities: Tensor, places: Sequence[tuple[int, int, int]]) -> list[int]:
    """One token of each distribution [R, V], which need not sum to 1, by two exponential races
    with the noise of its (key, position, attempt).

    The first of many exponential clocks with rates p to ring is i with probability p_i: argmax of
    p / E. Groups of tokens race first, then the tokens of the group that won. That is the same
    distribution as one race of all, for some V / 64 + 64 variates in place of V.
    """
    size = probabilities.shape[-1]
    if size % _GROUP:
        probabilities = pad(probabilities, (0, -size % _GROUP))
    groups = probabilities.unflatten(-1, (-1, _GROUP))
    count = groups.shape[1]
    drawn = [noise(key, at, count + _GROUP, attempt) for key, at, attempt in places]
    clocks = torch.from_numpy(np.stack(drawn)).to(probabilities.device)
    winners = torch.tensor(_best(groups.sum(-1) / clocks[:, :count]).tokens, device=clocks.device)
    inside = groups[torch.arange(len(places), device=clocks.device), winners]
    return (winners * _GROUP + (inside / clocks[:, count:]).argmax(-1)).tolist()


def _best(logits: Tensor) -> Best:
    """The argmax of logits [R, V] on a CPU: numpy's takes 0.1 ms, torch's 1 (R=32, V=49152)."""
    array = logits.numpy()
    found = array.argmax(-1)
    return Best(found.tolist(), np.isfinite(array[np.arange(len(found)), found]).tolist())


@dataclass(frozen=True, slots=True)
class _Logprobs:
    """The model's own log-probabilities [N, V] for the N rows that ask."""

    index: list[int]
    values: Tensor

    @classmethod
    def of(cls, logits: Tensor, rows: Rows) -> Self | None:
        index = [i for i, row in enumerate(rows) if row.params.logprobs is not None]
        return cls(index, take(logits, index).log_softmax(-1)) if index else None

    def told(self, draws: list[Draw], rows: Rows) -> list[Draw]:
        """The draws, with log-probabilities where they were asked for and something was drawn.

        Always the same number of likeliest is found, so that ties do not depend on the others.
        """
        tokens = torch.tensor([[max(draws[i].token, 0)] for i in self.index])
        own = self.values.gather(1, tokens.to(self.values.device)).squeeze(1).tolist()
        best = self.values.topk(min(MAX_LOGPROBS, self.values.shape[-1]))
        told = list(draws)
        for i, logprob, ids, values in zip(
            self.index, own, best.indices.tolist(), best.values.tolist(), strict=True
        ):
            if draws[i].error is None:
                top = tuple(zip(ids, values, strict=True))[: rows[i].params.logprobs]
                told[i] = Draw(draws[i].token, logprob, top)
        return told

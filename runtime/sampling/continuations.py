"""The likeliest next tokens of a row, for who weighs several of them against each other.

Knows rows and logits. Knows no sequence, no text and no request.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ramet.params import MAX_LOGPROBS
from ramet.runtime.errors import SamplingError
from ramet.runtime.sampling.processors import PROCESSORS, Rows

_UNSOUND = "the model gave no score: its logits hold NaN or infinity"


@dataclass(frozen=True, slots=True)
class Continuations:
    """Next tokens of one row, best first; none that is ruled out. With an `error` none at all."""

    tokens: list[int]
    scores: list[float]  # log-probability, and then what the row's processors make of it
    logprobs: list[float]  # the model's own
    top: tuple[tuple[int, float], ...] = ()  # (id, log-probability) of the model's likeliest
    error: SamplingError | None = None


@torch.inference_mode()
def continuations(logits: Tensor, rows: Rows, widths: Sequence[int]) -> list[Continuations]:
    """For each of logits [R, V] its row's `width` best next tokens.

    The processors apply to log-probabilities, which are not normalised again, as in the beam
    search of transformers. A row whose logits hold NaN or +inf gets a `SamplingError`.
    """
    assert len(logits) == len(rows) == len(widths), "one row and one width for each line"
    own = logits.float().log_softmax(-1)
    scores = own
    if not all(row.plain for row in rows):
        scores = own.clone()
        for process in PROCESSORS:
            process(scores, rows)
    best = scores.topk(min(max(widths), scores.shape[-1]))
    columns = zip(
        best.indices.tolist(),
        best.values.tolist(),
        own.gather(1, best.indices).tolist(),
        own[:, 0].isnan().tolist(),  # one is, and so all of the row are
        _top(own, rows),
        widths,
        strict=True,
    )
    return [_kept(*column) for column in columns]


def _kept(
    tokens: list[int],
    scores: list[float],
    logprobs: list[float],
    unsound: bool,
    top: tuple[tuple[int, float], ...],
    width: int,
) -> Continuations:
    if unsound:
        return Continuations([], [], [], error=SamplingError(_UNSOUND))
    width = min(width, sum(score > -torch.inf for score in scores))
    return Continuations(tokens[:width], scores[:width], logprobs[:width], top)


def _top(own: Tensor, rows: Rows) -> list[tuple[tuple[int, float], ...]]:
    """The model's likeliest tokens, for the rows that ask; always as many are found."""
    asked = [row.params.logprobs or 0 for row in rows]
    if not any(asked):
        return [()] * len(rows)
    best = own.topk(min(MAX_LOGPROBS, own.shape[-1]))
    pairs = zip(best.indices.tolist(), best.values.tolist(), asked, strict=True)
    return [tuple(zip(ids[:n], values[:n], strict=True)) for ids, values, n in pairs]

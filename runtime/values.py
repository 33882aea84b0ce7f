"""What is known of a value besides the value: frozen records, read as `s["x"].prob`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ramet.errors import LanguageError
from ramet.nodes import Method
from ramet.runtime.sampling import Draw
from ramet.runtime.sequence import Usage


@dataclass(frozen=True, slots=True)
class GenInfo:
    """One generation."""

    text: str
    tokens: tuple[int, ...]  # as drawn, a closing end-of-text token included
    finish_reason: str  # "eos", "stop" (a stop string, token or pattern) or "length"
    stop: str | None  # the stop string or pattern that ended it
    logprobs: tuple[Draw, ...]  # of each token, where the node asks for them
    usage: Usage

    @property
    def prob(self) -> float:
        """Probability of the tokens under the model; `LanguageError` if nobody asked for it."""
        if not self.logprobs:
            raise LanguageError("prob needs the log-probabilities: write gen(..., logprobs=0)")
        return math.exp(sum(draw.logprob or 0.0 for draw in self.logprobs))


@dataclass(frozen=True, slots=True)
class SamplesInfo:
    """The generations of a node with n > 1; every attribute is the list over them."""

    samples: tuple[GenInfo, ...]

    def __getattr__(self, name: str) -> list[object]:
        if name.startswith("_"):
            raise AttributeError(name)
        return [getattr(sample, name) for sample in self.samples]


@dataclass(frozen=True, slots=True)
class SelectInfo:
    """How the options of a select were scored, in the order of the options."""

    text: str  # the option chosen
    probs: dict[str, float]  # softmax over the method's scores
    scores: dict[str, float]
    logprobs: dict[str, tuple[float, ...]]  # of each option's tokens, given the context
    tokens: dict[str, tuple[int, ...]]  # the tokens that were scored
    finish_reason: str = "select"

    @property
    def prob(self) -> float:
        """Probability of the option chosen, among the options."""
        return self.probs[self.text]


Info = GenInfo | SamplesInfo | SelectInfo


def option_scores(
    by: Method, logprobs: Sequence[Sequence[float]], alone: Sequence[Sequence[float]]
) -> list[float]:
    """A score for each option from its tokens' log-probabilities.

    Args:
        by: `sum_logprob`; `mean_logprob`, the mean over the tokens; `unconditional`, the mean of
            what each token gains over its log-probability without the context; `greedy`, which
            goes token by token and keeps the options that are best so far, a shorter one going on
            with its own mean (the three methods of SGLang's frontend, `lang/choices.py`).
        logprobs: given the context.
        alone: given only the option's own tokens before; the first counts as 0. Used by
            `unconditional` alone.
    """
    if by == "sum_logprob":
        return [sum(option) for option in logprobs]
    if by == "unconditional":
        return [
            _mean([with_it - without for with_it, without in zip(option, own, strict=True)])
            for option, own in zip(logprobs, alone, strict=True)
        ]
    means = [_mean(option) for option in logprobs]
    if by == "mean_logprob":
        return means
    best = _greedy(logprobs, means)
    ahead = math.nextafter(max(means), math.inf)  # of all the others, whichever comes first
    return [ahead if index == best else mean for index, mean in enumerate(means)]


def probabilities(scores: Sequence[float]) -> list[float]:
    """Softmax."""
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    return [weight / sum(weights) for weight in weights]


def _greedy(logprobs: Sequence[Sequence[float]], means: Sequence[float]) -> int:
    left = list(range(len(logprobs)))
    for at in range(max(map(len, logprobs))):
        column = {
            i: logprobs[i][at] if at < len(logprobs[i]) else means[i]  # a short one's own mean
            for i in left
        }
        left = [i for i in left if column[i] == max(column.values())]
    return left[0]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)

"""Chooses among the options of a select from their tokens' log-probabilities. Numbers only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ramet.nodes import Method, Select
from ramet.runtime.sampling.keys import noise
from ramet.runtime.sampling.row import GREEDY_BELOW
from ramet.runtime.values import SelectInfo


@dataclass(frozen=True, slots=True)
class Scored:
    """The options of a node, in order: their tokens, and the log-probability of each token."""

    tokens: Sequence[Sequence[int]]
    logprobs: Sequence[Sequence[float]]  # given the context
    alone: Sequence[Sequence[float]]  # given only the option's own tokens before


def choose(node: Select, scored: Scored, key: int, position: int) -> SelectInfo:
    """The best option, or with a temperature one that is drawn: by the key, at that position."""
    scores = option_scores(node.by, scored.logprobs, scored.alone)
    chosen = scores.index(max(scores))
    if node.temperature > GREEDY_BELOW:
        weights = probabilities([score / node.temperature for score in scores])
        chosen = int((weights / noise(key, position, len(scores))).argmax())
    by_option = partial(zip, node.options, strict=True)
    return SelectInfo(
        text=node.options[chosen],
        probs=dict(by_option(probabilities(scores))),
        scores=dict(by_option(scores)),
        logprobs={option: tuple(each) for option, each in by_option(scored.logprobs)},
        tokens={option: tuple(each) for option, each in by_option(scored.tokens)},
    )


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

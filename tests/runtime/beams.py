"""Beam search written out plainly: every continuation of every beam, sorted. And its near ties."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from ramet.params import SamplingParams

Tokens = tuple[int, ...]
Logprobs = Callable[[Tokens], Sequence[float]]


class Scored(NamedTuple):
    tokens: Tokens
    score: float


class Searched(NamedTuple):
    hypotheses: list[Scored]  # best first
    margin: float  # how near to a tie the nearest of all decisions was
    steps: int


def plainly(
    logprobs: Logprobs, ends: Callable[[Tokens], bool], params: SamplingParams, limit: int
) -> Searched:
    """The hypotheses of a search, from the log-probabilities of all tokens after some tokens."""
    beams, penalty = params.beams, params.length_penalty
    live, finished = [Scored((), 0.0)], list[Scored]()
    margins, length = [math.inf], 0
    for length in range(1, limit + 1):
        ranked = sorted(
            (
                Scored((*tokens, token), total + logprob)
                for tokens, total in live
                for token, logprob in enumerate(logprobs(tokens))
                if logprob > -math.inf
            ),
            key=lambda one: -one.score,
        )
        over = [length == limit or ends(tokens) for tokens, _ in ranked]
        ended = [
            Scored(tokens, total / length**penalty)
            for (tokens, total), is_over in zip(ranked[:beams], over, strict=False)
            if is_over
        ]
        going = [one for one, is_over in zip(ranked, over, strict=True) if not is_over]
        every = sorted([*finished, *ended], key=lambda one: -one.score)
        live, finished = going[:beams], every[:beams]
        margins += [_edge(ranked, beams), _edge(going, beams), _edge(every, beams)]
        if not live:
            break
        if len(finished) == beams:
            longest = params.early_stopping == "never" and penalty > 0
            bound = live[0].score / (limit if longest else length) ** penalty
            margins.append(abs(bound - finished[-1].score))
            if params.early_stopping is True or bound <= finished[-1].score:
                break
    margins += [a.score - b.score for a, b in pairwise(finished)]
    return Searched(finished, min(margins), length)


def _edge(ranked: Sequence[Scored], beams: int) -> float:
    """Between the last that is in and the first that is out."""
    if len(ranked) <= beams:
        return math.inf
    return ranked[beams - 1].score - ranked[beams].score

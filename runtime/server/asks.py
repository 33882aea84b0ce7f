"""What can be asked of the engine below programs, and what it tells: frozen records."""

from dataclasses import dataclass

from ramet.params import SamplingParams
from ramet.runtime.sampling import Draw
from ramet.runtime.sequence import Top
from ramet.types import Type


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is wanted of one prompt."""

    tokens: list[int]
    params: SamplingParams  # of one sample
    seed: int
    samples: int = 1  # to be drawn; with none, the prompt is only computed, and scored
    best: int | None = None  # keep so many, those with the best log-probability on average
    type: Type | None = None  # what the whole text has to be
    score_from: int | None = None  # score the prompt's tokens from this one on; the first has none
    scope: bytes = b""  # whose blocks it shares
    maker: str = ""  # written down on the blocks that it computes


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probabilities of the prompt's tokens from `start` on, and the likeliest in each place."""

    start: int
    logprobs: list[float]
    tops: list[Top]


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that a sample released, and those of its draws whose text is released by now."""

    sample: int
    text: str
    draws: tuple[Draw, ...] = ()  # where log-probabilities are asked for


@dataclass(frozen=True, slots=True)
class Ended:
    """A sample that is over: what it wrote in all, and the draws that no delta had."""

    sample: int
    text: str
    tokens: tuple[int, ...]  # drawn, those that ended it too
    draws: tuple[Draw, ...]
    finish_reason: str  # "eos", "stop", "grammar" or "length"
    stopped_by: str | None  # the stop string, or the pattern
    score: float = 0.0  # mean log-probability of its draws, where they are asked for


@dataclass(frozen=True, slots=True)
class Spent:
    """What it took; the last item."""

    prompt: int
    reused: int  # tokens of the prompt whose keys and values were there
    generated: int
    queued: float | None = None  # seconds until it first ran; not known of a search


Item = Scored | Delta | Ended | Spent

"""What is known of a value besides the value: frozen records, read as `s["x"].prob`."""

import math
from dataclasses import dataclass

from ramet.errors import LanguageError
from ramet.runtime.sampling import Draw
from ramet.runtime.sequence import Usage


@dataclass(frozen=True, slots=True)
class GenInfo:
    """One generation."""

    text: str
    tokens: tuple[int, ...]  # as drawn, a closing end-of-text token included
    finish_reason: str  # "eos", "stop" (a stop string, token or pattern), "grammar" or "length"
    stop: str | None  # the stop string or pattern that ended it
    logprobs: tuple[Draw, ...]  # of each token, where the node asks for them
    usage: Usage
    score: float | None = None  # of the hypothesis, or among samples the mean log-probability
    texts: tuple[str, ...] = ()  # of the hypotheses found, or the samples drawn, best first
    scores: tuple[float, ...] = ()  # theirs

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

    @property
    def entropy(self) -> float:
        """Of the probabilities, in nats: 0 where the choice is certain."""
        return -sum(p * math.log(p) for p in self.probs.values() if p > 0)

    @property
    def prob(self) -> float:
        """Probability of the option chosen, among the options."""
        return self.probs[self.text]


@dataclass(frozen=True, slots=True)
class ScoreInfo:
    """How a text was scored as a continuation."""

    continuation: str
    tokens: tuple[int, ...]  # those that were scored
    logprobs: tuple[float, ...]  # of each, given all before

    @property
    def value(self) -> float:
        """Log-probability of the text."""
        return sum(self.logprobs)

    @property
    def text(self) -> str:
        """The value as a text."""
        return str(self.value)

    @property
    def mean(self) -> float:
        """Log-probability of a token, on average."""
        return self.value / len(self.logprobs)

    @property
    def prob(self) -> float:
        return math.exp(self.value)


Info = GenInfo | SamplesInfo | SelectInfo | ScoreInfo

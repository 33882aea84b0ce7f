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

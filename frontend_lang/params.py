"""How tokens are drawn: the sampling parameters, their ranges, and what they contradict.

The one place where they are written down; `gen`, the graph, the server and the engine take this
record whole. Knows no vocabulary: whether a token id exists is for the engine to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, Self, cast

from ramet.domains import (
    MAX_TOKEN_ID,
    Domain,
    biases,
    checked,
    flag,
    one_of,
    optional,
    pattern,
    real,
    strings,
    token_ids,
    whole,
)
from ramet.errors import ParameterError, near_miss, shown

MAX_TOKENS = 65_536
MAX_SAMPLES = 16
MAX_BEAMS = 64
MAX_STOPS = 16
MAX_STOP_BYTES = 256
MAX_TOKEN_LIST = 1_024
MAX_REGEX_BYTES = 4_096
MAX_LOGPROBS = 20
MAX_BIAS = 100.0
MAX_SEED = 2**64 - 1

TEMPERATURE = real(0, 100)
SEED = optional(whole(0, MAX_SEED))


def _param(default: object, domain: Domain, says: str) -> Any:
    return field(default=default, metadata={"domain": domain, "says": says})


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How one `gen` draws its tokens; greedy unless told otherwise. Checked when it is made.

    A sequence is stored as a tuple, `logit_bias` as sorted pairs, so the record is hashable;
    `dict(params.logit_bias)` is the mapping again.
    """

    max_tokens: int = _param(128, whole(1, MAX_TOKENS), "The most tokens to draw.")
    min_tokens: int = _param(0, whole(0, MAX_TOKENS), "No end and no stop before this many tokens.")
    n: int = _param(1, whole(1, MAX_SAMPLES), "Independent samples; over 1, the value is a list.")
    best_of: int = _param(
        1, whole(1, MAX_SAMPLES), "Draw so many samples and keep the `n` best; 1 keeps all."
    )
    beams: int = _param(1, whole(1, MAX_BEAMS), "Width of a beam search; 1 is none.")
    length_penalty: float = _param(
        1.0, real(-10, 10), "A hypothesis scores its log-probability over its length to this."
    )
    early_stopping: bool | Literal["never"] = _param(
        False,
        one_of((True, False, "never")),
        'True ends a search with as many hypotheses as beams, "never" when none can get better.',
    )
    temperature: float = _param(0.0, TEMPERATURE, "Divides the logits; 0 takes the likeliest.")
    top_p: float = _param(1.0, real(1e-6, 1), "Keep the likeliest tokens that sum to this.")
    top_k: int = _param(0, whole(0, MAX_TOKEN_ID), "Keep this many of the likeliest; 0 keeps all.")
    min_p: float = _param(0.0, real(0, 1), "Keep tokens this likely, relative to the likeliest.")
    repetition_penalty: float = _param(
        1.0, real(0.01, 100), "Divides the logits of tokens already there; 1 is off."
    )
    presence_penalty: float = _param(
        0.0, real(-2, 2), "Taken from the logit of every token drawn before."
    )
    frequency_penalty: float = _param(
        0.0, real(-2, 2), "Taken from a token's logit once for each time it was drawn."
    )
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]] = _param(
        (), biases(MAX_TOKEN_LIST, MAX_BIAS), "Added to the logits of these tokens."
    )
    allowed_tokens: Sequence[int] | None = _param(
        None, optional(token_ids(1, MAX_TOKEN_LIST)), "Draw only these tokens."
    )
    heal: bool = _param(
        False, flag(), "Draw the end of the text before anew, so that tokens may reach over it."
    )
    stop: str | Sequence[str] = _param(
        (),
        strings(MAX_STOPS, MAX_STOP_BYTES),
        "End before the first of these texts; it is not part of the value.",
    )
    stop_tokens: Sequence[int] = _param(
        (), token_ids(0, MAX_TOKEN_LIST), "End before one of these tokens."
    )
    stop_regex: str | None = _param(
        None,
        optional(pattern(MAX_REGEX_BYTES)),
        "End before the first match; it is not part of the value.",
    )
    ignore_eos: bool = _param(False, flag(), "Go on after the model's own end.")
    logprobs: int | None = _param(
        None,
        optional(whole(0, MAX_LOGPROBS)),
        "Log-probabilities of the drawn token (0) and of this many of the likeliest.",
    )
    seed: int | None = _param(None, SEED, "Makes the draw repeatable; None follows the program.")

    def __post_init__(self) -> None:
        for parameter in fields(self):
            given = getattr(self, parameter.name)
            if given is not parameter.default:
                domain: Domain = parameter.metadata["domain"]
                object.__setattr__(self, parameter.name, checked(parameter.name, given, domain))
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        if self.min_tokens > self.max_tokens:
            raise ParameterError(
                "min_tokens",
                self.min_tokens,
                f"min_tokens is {self.min_tokens}, but max_tokens is only {self.max_tokens}",
            )
        if self.beams > 1 and self.temperature != 0:
            raise ParameterError(
                "beams",
                self.beams,
                f"beams is {self.beams}, and temperature {self.temperature:g}: "
                "a beam search does not sample; leave one of them out",
            )
        if self.n > self.beams > 1:
            raise ParameterError(
                "n",
                self.n,
                f"n is {self.n}, but a search with {self.beams} beams has no more hypotheses",
            )
        if self.n > self.best_of > 1:
            raise ParameterError(
                "best_of",
                self.best_of,
                f"best_of is {self.best_of}, but n is {self.n}: no more can be kept than are drawn",
            )
        if self.best_of > 1 and self.beams > 1:
            raise ParameterError(
                "best_of",
                self.best_of,
                f"best_of is {self.best_of}, and beams {self.beams}: "
                "a beam search does not sample; leave one of them out",
            )
        if self.heal and self.beams > 1:
            raise ParameterError(
                "heal", self.heal, "heal is true, but a beam search heals no text; leave one out"
            )
        for name, many in (("n", self.n), ("best_of", self.best_of)):
            if many > 1 and self.temperature == 0 and self.beams == 1:
                raise ParameterError(
                    name,
                    many,
                    f"{name} is {many}, but at temperature 0 all samples would be equal; "
                    "set a temperature over 0",
                )

    @property
    def samples(self) -> int:
        """How many samples are drawn side by side."""
        return max(self.n, self.best_of)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The record with these fields; a name that is no field is refused."""
        for name in data:
            if name not in SAMPLING_FIELDS:
                hint = near_miss(name, SAMPLING_FIELDS)
                raise ParameterError(
                    str(name), data[name], f"unknown sampling parameter {shown(name)}{hint}"
                )
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON can hold it; `from_dict` reads it back."""
        values = {name: getattr(self, name) for name in SAMPLING_FIELDS}
        return {
            name: _plain(name, value)
            for name, value in values.items()
            if value != SAMPLING_FIELDS[name].default
        }


SAMPLING_FIELDS: dict[str, Field[Any]] = {p.name: p for p in fields(SamplingParams)}
"""Every field by name; its metadata holds `says`, its sentence, and `domain`, what it takes."""


def _plain(name: str, value: Any) -> object:
    if name == "logit_bias":
        return {str(token): bias for token, bias in value}
    return list(cast("tuple[object]", value)) if isinstance(value, tuple) else value

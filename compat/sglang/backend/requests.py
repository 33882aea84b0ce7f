"""Sampling settings as SGLang's server takes them, in the terms of this engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ramet.compat.sglang.sampling import SglSamplingParams, listed
from ramet.errors import ParameterError, near_miss
from ramet.params import SamplingParams
from ramet.types import Type, TypeKind

DEFAULT_MAX_TOKENS = 128

_RENAMED = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "stop_token_ids": "stop_tokens",
    "sampling_seed": "seed",
}
_SAME = (
    "stop stop_regex temperature top_p top_k min_p frequency_penalty presence_penalty "
    "repetition_penalty ignore_eos logit_bias"
).split()
_CONSTRAINTS: dict[str, TypeKind] = {"regex": "regex", "json_schema": "json", "ebnf": "grammar"}
# What says how text is written, or how it is streamed: this engine has one way for each.
_WITHOUT_EFFECT = {
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stream_interval",
    "custom_params",
}
_KNOWN = {*_RENAMED, *_SAME, *_CONSTRAINTS, *_WITHOUT_EFFECT, "n"}


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Which log-probabilities are told."""

    wanted: bool = False
    top: int = 0
    start: int | None = None  # of the prompt's tokens, from this one on
    texts: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One generation."""

    params: SamplingParams
    n: int
    empty: bool  # of no tokens: the text is only computed
    type: Type | None  # what the whole text has to be
    logprobs: Logprobs


def request_of(
    sampling: Mapping[str, Any],
    logprobs: Logprobs,
    control_token: Callable[[str], int | None] = lambda text: None,
) -> Request:
    """Raises `ParameterError`: an unknown setting, or a value out of range.

    Args:
        sampling: settings by SGLang's names; None is the default.
        control_token: the control token a stop string spells; generated text never holds one.
    """
    given = {name: value for name, value in sampling.items() if value is not None}
    for name in given:
        if name not in _KNOWN:
            hint = near_miss(name, _KNOWN)
            raise ParameterError(name, given[name], f"unknown sampling parameter {name!r}{hint}")
    fields = {
        _RENAMED.get(name, name): given[name] for name in (*_RENAMED, *_SAME) if name in given
    }
    fields.setdefault("temperature", 1.0)
    limit = fields.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
    fields["max_tokens"] = max(1, limit)
    fields["top_k"] = max(0, fields.get("top_k", 0))
    fields["stop_regex"] = _any_of(listed(fields.get("stop_regex"))) or None
    tokens = {text: control_token(text) for text in listed(fields.get("stop"))}
    fields["stop"] = [text for text, token in tokens.items() if token is None]
    control = [token for token in tokens.values() if token is not None]
    fields["stop_tokens"] = [*listed(fields.get("stop_tokens")), *control]
    fields["logprobs"] = logprobs.top if logprobs.wanted else None
    return Request(
        params=SamplingParams(**fields),
        n=given.get("n", 1),
        empty=limit == 0,
        type=_type(given),
        logprobs=logprobs,
    )


def request_of_gen(
    params: SglSamplingParams, control_token: Callable[[str], int | None]
) -> Request:
    """The same for a `gen` of a program."""
    logprobs = Logprobs(
        wanted=bool(params.return_logprob),
        top=params.top_logprobs_num or 0,
        start=params.logprob_start_len,
        texts=bool(params.return_text_in_logprobs),
    )
    return request_of(params.without_dtype().to_srt_kwargs(), logprobs, control_token)


def _any_of(patterns: list[str]) -> str:
    return patterns[0] if len(patterns) == 1 else "|".join(f"(?:{p})" for p in patterns)


def _type(given: Mapping[str, Any]) -> Type | None:
    """Raises `ParameterError` for a JSON schema that is no JSON."""
    found = [Type(kind, given[name]) for name, kind in _CONSTRAINTS.items() if name in given]
    if len(found) > 1:
        kinds = " and ".join(name for name in _CONSTRAINTS if name in given)
        raise ParameterError("regex", None, f"a text is constrained in one way, not by {kinds}")
    return found[0] if found else None

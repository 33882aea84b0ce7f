"""Requests as what the engine is asked: sampling settings, and what the whole text has to be."""

import secrets
from collections.abc import Mapping
from typing import Any

from ramet.errors import ParameterError
from ramet.params import MAX_TOKENS, SamplingParams
from ramet.runtime.server.asks import Ask
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.openai.requests import ChatRequest, CompletionRequest, Sampling
from ramet.types import Type, choice_type, json_type

DEFAULT_MAX_TOKENS = 16
"""Of a completion, as OpenAI has it; a chat goes on until it ends."""

_OURS = {  # by the names of `SamplingParams`
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "min_tokens": "min_tokens",
    "ignore_eos": "ignore_eos",
    "stop": "stop",
    "stop_tokens": "stop_token_ids",
    "stop_regex": "stop_regex",
    "allowed_tokens": "allowed_token_ids",
    "beams": "beams",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
}
_THEIRS = {**_OURS, "json": "response_format"}


def completion_ask(request: CompletionRequest, tokens: list[int]) -> Ask:
    """What is wanted of one prompt of a completion."""
    limit = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    n = request.n or 1
    best = request.best_of if request.best_of is not None and request.best_of != n else None
    if best is not None and best < n:
        raise Refused(400, f"best_of is {best}, but n is {n}", param="best_of")
    if best is not None and (request.beams or 1) > 1:
        raise Refused(400, "a beam search has no best_of; leave one of them out", param="best_of")
    scored = request.echo and request.logprobs is not None
    if scored and (request.beams or 1) > 1:
        raise Refused(400, "a beam search scores no prompt; leave echo out", param="echo")
    params = _params(request, limit, request.logprobs)
    return Ask(
        tokens=tokens,
        params=params,
        seed=_seed(request),
        samples=0 if limit == 0 else n if best is None else best,
        best=None if best is None else n,
        type=_type(request, None),
        score_from=0 if scored else None,
        maker="completion",
    )


def chat_ask(request: ChatRequest, tokens: list[int], room: int) -> Ask:
    """What is wanted of a conversation that leaves room for so many tokens."""
    given = request.max_completion_tokens
    if given is not None and request.max_tokens not in (None, given):
        raise Refused(400, "max_tokens and max_completion_tokens differ", param="max_tokens")
    limit = request.max_tokens if given is None else given
    if limit == 0:
        raise Refused(400, "max_tokens must be over 0", param="max_tokens")
    if limit is None:
        limit = max(1, min(MAX_TOKENS, room), request.min_tokens or 0)
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return Ask(
        tokens=tokens,
        params=_params(request, limit, logprobs),
        seed=_seed(request),
        samples=request.n or 1,
        type=_type(request, request),
        maker="chat",
    )


def _params(request: Sampling, limit: int, logprobs: int | None) -> SamplingParams:
    given = {ours: getattr(request, theirs) for ours, theirs in _OURS.items()}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    fields.setdefault("temperature", 0.0 if fields.get("beams", 1) > 1 else 1.0)
    if fields.get("top_k") == -1:  # as others say that all are kept
        fields["top_k"] = 0
    fields["logit_bias"] = _biases(request.logit_bias or {})
    fields["max_tokens"] = max(1, limit)
    fields["logprobs"] = logprobs
    try:
        return SamplingParams(**fields)
    except ParameterError as error:
        raise Refused(
            400, error.message, code="invalid_value", param=_THEIRS.get(error.field, error.field)
        ) from None


def _biases(given: Mapping[str, float]) -> dict[int, float]:
    try:
        return {int(token): bias for token, bias in given.items()}
    except ValueError:
        raise Refused(
            400, "logit_bias: a key is no token id", code="invalid_value", param="logit_bias"
        ) from None


def _seed(request: Sampling) -> int:
    """The seed of the samples; without one they are drawn anew each time."""
    return secrets.randbits(63) if request.seed is None else request.seed % 2**64


def _type(request: Sampling, chat: ChatRequest | None) -> Type | None:
    found: dict[str, Type] = {}
    if request.regex is not None:
        found["regex"] = Type("regex", request.regex)
    if request.grammar is not None:
        found["grammar"] = Type("grammar", request.grammar)
    if request.choice is not None:
        found["choice"] = choice_type(request.choice)
    format = None if chat is None else chat.response_format
    if format is not None and format.type == "json_object":
        found["response_format"] = json_type({"type": "object"})
    if format is not None and format.json_schema is not None:
        schema = format.json_schema.schema_
        found["response_format"] = json_type(True if schema is None else schema)
    if len(found) > 1:
        names = " and ".join(found)
        raise Refused(400, f"a text is held to one type, not to {names}", param=next(iter(found)))
    return next(iter(found.values()), None)

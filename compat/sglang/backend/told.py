"""What `get_meta_info` says about a generation, in the shapes of SGLang's server."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from ramet.compat.sglang.backend.requests import Logprobs
from ramet.runtime.sampling import Draw
from ramet.runtime.sequence import Generation, Scoring

Decode = Callable[[Sequence[int]], str]
Entry = list[Any]  # log-probability, token id, text or None


def meta_of(task: Generation, logprobs: Logprobs, decode: Decode, since: int = 0) -> dict[str, Any]:
    """About a generation, also one under way; its lists begin at the draw number `since`."""
    meta: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "finish_reason": finish_reason(task) if task.done else None,
        "prompt_tokens": task.prompt,
        "completion_tokens": len(task.drawn),
        "cached_tokens": task.usage.prompt_reused,
    }
    if logprobs.wanted:
        draws = task.draws[since:]
        meta["output_token_logprobs"] = [
            _entry(d.token, d.logprob, logprobs, decode) for d in draws
        ]
        meta["output_token_logprobs_length"] = since + len(draws)
        if logprobs.top:
            meta["output_top_logprobs"] = [top_entries(d, logprobs, decode) for d in draws]
    return meta


def finish_reason(task: Generation) -> dict[str, Any]:
    if task.finish_reason == "length":
        return {"type": "length", "length": len(task.drawn)}
    matched = task.text.stopped_by
    return {"type": "stop", "matched": task.drawn[-1] if matched is None else matched}


def top_entries(draw: Draw, logprobs: Logprobs, decode: Decode) -> list[Entry]:
    return [_entry(token, logprob, logprobs, decode) for token, logprob in draw.top]


def input_entries(
    tokens: Sequence[int], task: Scoring, logprobs: Logprobs, decode: Decode
) -> list[Entry]:
    """The scored tokens; the first of a context has no log-probability."""
    first = [None] if logprobs.start == 0 else []
    scored = [*first, *task.logprobs]
    return [
        _entry(token, logprob, logprobs, decode)
        for token, logprob in zip(tokens[len(tokens) - len(scored) :], scored, strict=True)
    ]


def choice_entries(tokens: Sequence[int], logprobs: Sequence[float | None], decode: Decode) -> Any:
    return [[p, token, decode([token])] for token, p in zip(tokens, logprobs, strict=True)]


def _entry(token: int, logprob: float | None, logprobs: Logprobs, decode: Decode) -> Entry:
    return [logprob, token, decode([token]) if logprobs.texts else None]

"""Lists of log-probabilities that come in pieces."""

from collections.abc import Mapping
from typing import Any

LISTS = ("output_token_logprobs", "output_top_logprobs")
LENGTH = "output_token_logprobs_length"


def grown(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is known after another piece of a stream.

    The lists of a piece hold what is new in it, unless they are as long as all of them are: then
    they begin at the beginning.
    """
    meta = dict(new or {})
    for name in LISTS:
        if (come := meta.get(name)) is None:
            continue
        known = old.get(name) or []
        meta[name] = list(come) if len(come) == meta.get(LENGTH) else [*known, *come]
    return meta


def since(meta: Mapping[str, Any], seen: Mapping[str, int]) -> dict[str, Any]:
    """The same with only what its lists hold after that many entries."""
    newer = dict(meta)
    for name in LISTS:
        if newer.get(name) is not None:
            newer[name] = newer[name][seen.get(name, 0) :]
    return newer


def lengths(meta: Mapping[str, Any]) -> dict[str, int]:
    return {name: len(meta[name]) for name in LISTS if meta.get(name) is not None}

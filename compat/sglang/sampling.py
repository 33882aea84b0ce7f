"""Sampling settings in SGLang's names, and what a `dtype` means. Knows no engine."""

import re
from dataclasses import dataclass, fields, replace
from typing import Any, Self

REGEX_INT = r"[-+]?[0-9]+[ \n]*"
REGEX_FLOAT = r"[-+]?[0-9]*\.?[0-9]+[ \n]*"
REGEX_BOOL = r"(True|False)"
REGEX_STR = r"\"[\w\d\s]*\""

_REGEX_OF = {"int": REGEX_INT, "float": REGEX_FLOAT, "bool": REGEX_BOOL, "str": REGEX_STR}
_ENDS_OF = {"int": [" ", "\n"], "float": [" ", "\n"]}
_SERVER_FIELDS = (
    "max_new_tokens min_new_tokens n stop stop_token_ids stop_regex temperature top_p top_k min_p "
    "frequency_penalty presence_penalty ignore_eos regex json_schema"
).split()


@dataclass(slots=True)
class SglSamplingParams:
    """How tokens are drawn. In a `gen`, None means: as the run says."""

    max_new_tokens: int | None = 128
    min_new_tokens: int | None = 0
    n: int | None = 1
    stop: Any = ()  # a string, or several
    stop_token_ids: Any = ()
    stop_regex: Any = ()  # a pattern, or several
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    top_k: int | None = -1  # -1 keeps all
    min_p: float | None = 0.0
    frequency_penalty: float | None = 0.0
    presence_penalty: float | None = 0.0
    ignore_eos: bool | None = False
    return_logprob: bool | None = None
    logprob_start_len: int | None = None
    top_logprobs_num: int | None = None
    return_text_in_logprobs: bool | None = None
    json_schema: str | None = None
    dtype: Any = None  # int, float, bool or str, or the name of one
    regex: str | None = None

    @classmethod
    def unset(cls, **given: Any) -> Self:
        """Only what is given; everything else is None."""
        return cls(**{field.name: given.pop(field.name, None) for field in fields(cls)}, **given)

    def clone(self) -> Self:
        return replace(self)

    def overridden_by(self, other: "SglSamplingParams") -> Self:
        """These settings with those of the other that are not None."""
        own = {field.name: getattr(other, field.name) for field in fields(other)}
        return replace(self, **{name: value for name, value in own.items() if value is not None})

    def with_stops(self, more: Any) -> Self:
        return replace(self, stop=[*listed(self.stop), *listed(more)]) if more else replace(self)

    def without_dtype(self) -> Self:
        """`dtype` said as a regular expression and stop strings; it goes before `regex`."""
        if self.dtype is None:
            return replace(self)
        name = self.dtype if isinstance(self.dtype, str) else self.dtype.__name__
        if name not in _REGEX_OF:
            raise ValueError(f"dtype must be int, float, bool or str, not {self.dtype!r}")
        stop = [*listed(self.stop), *_ENDS_OF.get(name, [])]
        return replace(self, dtype=None, regex=_REGEX_OF[name], stop=stop)

    def to_srt_kwargs(self) -> dict[str, Any]:
        """`sampling_params` of a request to a server."""
        return {name: getattr(self, name) for name in _SERVER_FIELDS}


def listed(given: Any) -> list[Any]:
    """One string or several as a list."""
    if given is None:
        return []
    return [given] if isinstance(given, str | int) else list(given)


def checked_regex(pattern: str | None) -> str | None:
    """The pattern; raises `re.error` when it is none."""
    if pattern is not None:
        re.compile(pattern)
    return pattern

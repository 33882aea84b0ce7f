"""SGLang's `/generate` in this engine's terms: what is sent, and the answers in its shapes.

Knows no HTTP. Fields without effect here: how text is written, and how often a stream sends.
"""

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ramet.params import SamplingParams
from ramet.runtime.sampling import Draw
from ramet.runtime.sequence import Top
from ramet.runtime.server.asks import Ask, Delta, Ended, Item, Scored, Spent
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.openai.logprobs import finite
from ramet.runtime.server.openai.requests import (
    FIRST,
    MAX_ITEMS,
    Absent,
    Bias,
    Integer,
    Integers,
    Stops,
    Tokens,
    Wire,
    few,
    said,
)
from ramet.runtime.tokenizer import Tokenizer
from ramet.types import Type, TypeKind

_RENAMED = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "stop_token_ids": "stop_tokens",
}
_SAME = (
    "stop temperature top_p top_k min_p frequency_penalty presence_penalty repetition_penalty "
    "ignore_eos logit_bias"
).split()
_CONSTRAINTS: dict[str, TypeKind] = {"regex": "regex", "json_schema": "json", "ebnf": "grammar"}
_IMAGES = "this server reads text only"


class SglSampling(Wire):
    """`sampling_params`, by SGLang's names. What is null is left out."""

    max_new_tokens: Integer | None = Field(default=None, ge=0)
    min_new_tokens: Integer | None = None
    n: Integer | None = Field(default=None, ge=1)
    stop: Stops | None = None
    stop_token_ids: Tokens | None = None
    stop_regex: Stops | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Integer | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    ignore_eos: bool | None = None
    logit_bias: Bias | None = None
    sampling_seed: Integer | None = None
    regex: str | None = None
    json_schema: str | None = None
    ebnf: str | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    no_stop_trim: Annotated[None, Absent(False, why="a stop is never part of a text")] = None
    stream_interval: Integer | None = None


Ids = Annotated[
    Integers | Annotated[list[Integers], FIRST, few(MAX_ITEMS)],
    said("expected a list of token ids, or a list of those"),
]
Samplings = SglSampling | Annotated[list[SglSampling], FIRST, few(MAX_ITEMS)]


class GenerateRequest(Wire):
    """`POST /generate`."""

    text: Stops | None = None
    input_ids: Ids | None = None
    sampling_params: Samplings | None = None
    return_logprob: bool | None = None
    logprob_start_len: Integer | None = None
    top_logprobs_num: Integer | None = Field(default=None, ge=0)
    return_text_in_logprobs: bool | None = None
    stream: bool | None = None
    rid: Stops | None = None  # no effect
    image_data: Annotated[None, Absent([], why=_IMAGES)] = None
    video_data: Annotated[None, Absent([], why=_IMAGES)] = None
    audio_data: Annotated[None, Absent([], why=_IMAGES)] = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if (self.text is None) == (self.input_ids is None):
            raise PydanticCustomError("contradiction", "give either a text, or input_ids")
        given = self.sampling_params
        if isinstance(given, list) and len(given) != len(self.prompts):
            message = f"{len(given)} sampling_params for {len(self.prompts)} prompts"
            raise PydanticCustomError("contradiction", "{message}", {"message": message})
        return self

    @property
    def several(self) -> bool:
        """Whether the answer is a list, also of one."""
        ids = self.input_ids
        return isinstance(self.text, list) or bool(ids and isinstance(ids[0], list))

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        if self.text is not None:
            return self.text if isinstance(self.text, list) else [self.text]
        ids: Any = self.input_ids
        return ids if self.several else [ids]

    @property
    def samplings(self) -> list[SglSampling]:
        given = self.sampling_params or SglSampling()
        return given if isinstance(given, list) else [given] * len(self.prompts)


def ask_of(
    request: GenerateRequest, sampling: SglSampling, tokens: list[int], tokenizer: Tokenizer
) -> Ask:
    """What is wanted of one prompt. Raises `ParameterError`, or `Refused`."""
    own = {name: getattr(sampling, name) for name in (*_RENAMED, *_SAME)}
    fields = {_RENAMED.get(n, n): value for n, value in own.items() if value is not None}
    fields.setdefault("temperature", 1.0)
    limit = fields.setdefault("max_tokens", 128)
    fields["max_tokens"] = max(1, limit)
    fields["top_k"] = max(0, fields.get("top_k", 0))
    stops = {text: _control_token(tokenizer, text) for text in _listed(sampling.stop)}
    fields["stop"] = [text for text, token in stops.items() if token is None]
    control = [token for token in stops.values() if token is not None]
    fields["stop_tokens"] = [*fields.get("stop_tokens", ()), *control]
    patterns = _listed(sampling.stop_regex)
    if patterns:
        many = len(patterns) > 1
        fields["stop_regex"] = "|".join(f"(?:{p})" if many else p for p in patterns)
    if "logit_bias" in fields:
        try:
            fields["logit_bias"] = {int(k): bias for k, bias in fields["logit_bias"].items()}
        except ValueError:
            raise Refused(400, "logit_bias: a key is no token id", param="logit_bias") from None
    fields["logprobs"] = (request.top_logprobs_num or 0) if request.return_logprob else None
    kinds = [name for name in _CONSTRAINTS if getattr(sampling, name) is not None]
    if len(kinds) > 1:
        raise Refused(400, f"a text is held to one type, not to {' and '.join(kinds)}")
    start = request.logprob_start_len
    seed = sampling.sampling_seed
    return Ask(
        tokens=tokens,
        params=SamplingParams(**fields),
        seed=secrets.randbits(63) if seed is None else seed % 2**64,
        samples=0 if limit == 0 else sampling.n or 1,
        type=Type(_CONSTRAINTS[kinds[0]], getattr(sampling, kinds[0])) if kinds else None,
        # The entries begin behind the token at the start, but for the first of the prompt.
        score_from=None if not request.return_logprob or start is None or start < 0 else start + 1,
        maker="generate",
    )


@dataclass
class _Text:
    """What one sample came to so far."""

    id: str
    text: str = ""
    draws: list[Draw] = field(default_factory=list)
    told: int = 0  # draws
    ended: Ended | None = None


class Answers:
    """The answers of one request, as they grow."""

    def __init__(self, request: GenerateRequest, asks: Sequence[Ask], tokenizer: Tokenizer) -> None:
        self._request = request
        self._asks = asks
        self._decode = tokenizer
        self._inputs: dict[int, dict[str, Any]] = {}
        self._spent: dict[int, Spent] = {}
        self._texts = [
            [_Text(uuid.uuid4().hex) for _ in range(max(1, ask.samples))] for ask in asks
        ]

    def take(self, number: int, item: Item) -> dict[str, Any] | None:
        """The answer that grew, for a stream."""
        match item:
            case Scored():
                self._inputs[number] = self._scored(number, item)
                return None
            case Spent():
                self._spent[number] = item
                return None if self._asks[number].samples else self._answer(number, 0)
            case Delta():
                text = self._texts[number][item.sample]
                text.text += item.text
            case Ended():
                text = self._texts[number][item.sample]
                text.text, text.ended = item.text, item
        text.draws += item.draws
        answer = self._answer(number, item.sample, text.told)
        text.told = len(text.draws)
        return answer

    def all(self) -> Any:
        """The whole answer: one, or a list where several prompts or samples are asked for."""
        found = [
            self._answer(number, sample)
            for number, texts in enumerate(self._texts)
            for sample in range(len(texts))
        ]
        return found if self._request.several or len(found) > 1 else found[0]

    def _answer(self, number: int, sample: int, since: int = 0) -> dict[str, Any]:
        text, ask, spent = self._texts[number][sample], self._asks[number], self._spent.get(number)
        tokens = [] if text.ended is None else list(text.ended.tokens)
        meta: dict[str, Any] = {
            "id": text.id,
            "finish_reason": _finish(text.ended, ask),
            "prompt_tokens": len(ask.tokens),
            "completion_tokens": len(tokens) or len(text.draws),
            **({} if spent is None else {"cached_tokens": spent.reused}),
            **self._inputs.get(number, {}),
        }
        if self._request.return_logprob:
            draws = text.draws[since:]
            meta["output_token_logprobs"] = [self._entry(d.token, d.logprob) for d in draws]
            meta["output_token_logprobs_length"] = len(text.draws)
            if self._request.top_logprobs_num:
                meta["output_top_logprobs"] = [self._tops(d.top) for d in draws]
        answer: dict[str, Any] = {"text": text.text, "output_ids": tokens, "meta_info": meta}
        if self._request.several and self._request.stream:
            answer["index"] = number
        return answer

    def _scored(self, number: int, scored: Scored) -> dict[str, Any]:
        tokens = self._asks[number].tokens
        whole = self._request.logprob_start_len == 0
        logprobs: list[float | None] = [*([None] if whole else []), *scored.logprobs]
        own = tokens[len(tokens) - len(logprobs) :]
        entries = [self._entry(*each) for each in zip(own, logprobs, strict=True)]
        told: dict[str, Any] = {"input_token_logprobs": entries}
        if self._request.top_logprobs_num:
            first = [None] if whole else []
            told["input_top_logprobs"] = [*first, *map(self._tops, scored.tops)]
        return told

    def _tops(self, top: Top) -> list[list[Any]]:
        return [self._entry(token, logprob) for token, logprob in top]

    def _entry(self, token: int, logprob: float | None) -> list[Any]:
        text = self._decode.decode([token]) if self._request.return_text_in_logprobs else None
        return [None if logprob is None else finite(logprob), token, text]


def _finish(ended: Ended | None, ask: Ask) -> dict[str, Any] | None:
    if ended is None:
        return None if ask.samples else {"type": "length", "length": 0}
    if ended.finish_reason == "length":
        return {"type": "length", "length": len(ended.tokens)}
    matched = ended.stopped_by
    return {"type": "stop", "matched": ended.tokens[-1] if matched is None else matched}


def _control_token(tokenizer: Tokenizer, text: str) -> int | None:
    """The control token that this text spells, if it spells one: no generated text holds it."""
    token = tokenizer.hf.backend_tokenizer.token_to_id(text)
    return token if token in tokenizer.control_ids else None


def _listed(given: str | list[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())

"""Beam searches within types find what transformers finds with a mask that is worked out by hand:
the same hypotheses in the same order, scores within 1e-4."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import regex
import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from ramet.params import SamplingParams
from ramet.runtime import Engine, EngineConfig
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.beam_oracle import (
    WITHIN,
    by_ramet,
    by_transformers,
    encoded,
    random_prompts,
    tiny,
)
from tests.runtime.beams import Scored, Tokens
from tests.runtime.conftest import TOY_VOCAB

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Language:
    """Texts of ASCII characters, each of which is one token of the byte tokenizer."""

    fields: dict[str, Any]  # of the gen
    begins: Callable[[str], bool] = field(repr=False)  # whether some text of it begins so
    whole: Callable[[str], bool] = field(repr=False)
    known: dict[Tokens, tuple[str | None, Tensor]] = field(default_factory=dict, repr=False)


def matching(pattern: str, **fields: Any) -> Language:
    compiled = regex.compile(pattern)
    return Language(
        fields or {"regex": pattern},
        lambda text: compiled.fullmatch(text, partial=True) is not None,
        lambda text: compiled.fullmatch(text) is not None,
    )


def balanced(text: str) -> int:
    """How many brackets are open; -1 where the text is no beginning of one pair with more in it."""
    depth = 0
    for at, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, -99)
        if depth < 0 or (depth == 0 and at + 1 < len(text)):
            return -1
    return depth


LANGUAGES = [
    matching("[ -~]{3,9}"),
    matching("([a-m]|[N-Z][a-z])*[.!?]"),
    matching("[^ -M\x7f-\U0010ffff\x00-\x1f]{2,}"),
    matching("0|-?[1-9][0-9]{0,17}", type=int),
    matching(
        '"(a|ab|ba)"|0|[1-9][0-9]{0,17}',
        json_schema={"anyOf": [{"enum": ["a", "ab", "ba"]}, {"type": "integer", "minimum": 0}]},
    ),
    Language(
        {"grammar": 'start: "(" start* ")"'},
        lambda text: balanced(text) >= 0,
        lambda text: text != "" and balanced(text) == 0,
    ),
]


class Reading:
    """What the language allows after each text, worked out by asking it for every token."""

    def __init__(
        self, language: Language, engine: Engine, prompt: int, params: SamplingParams
    ) -> None:
        self.prompt = prompt
        self.ends = sorted(engine.core.eos)
        letters = {engine.tokenizer.decode([token]): token for token in range(TOY_VOCAB)}
        self._letters = {text: token for text, token in letters.items() if text.isascii() and text}
        self._spelled = {token: text for text, token in self._letters.items()}
        self._language = language
        self._params = params

    def after(self, tokens: Tokens) -> tuple[str | None, Tensor]:
        """The text, None where it is none of the language; which letters can follow [V]."""
        known = self._language.known
        if tokens not in known:
            allowed = torch.zeros(TOY_VOCAB, dtype=torch.bool)
            text = "".join(self._spelled.get(token, "\0") for token in tokens)
            if tokens and not self._language.begins(text):
                return known.setdefault(tokens, (None, allowed))
            for letter, token in self._letters.items():
                allowed[token] = self._language.begins(text + letter)
            known[tokens] = text, allowed
        return known[tokens]

    def whole(self, tokens: Tokens) -> bool:
        text, _ = self.after(tokens)
        return text is not None and self._language.whole(text)

    def logprobs(self, tokens: Tokens, own: Tensor) -> Tensor:
        """Ruled-out tokens out; where the text is whole, an end with their mass and its own."""
        text, allowed = self.after(tokens)
        if text is None:
            return torch.full_like(own, -torch.inf)
        goes_on = self._params.ignore_eos or len(tokens) < self._params.min_tokens
        found = own.masked_fill(~allowed, -torch.inf)
        if self._language.whole(text) and not (goes_on and allowed.any()):
            found[self.ends] = own[self.ends]
            found[self.ends[0]] = own[~allowed].logsumexp(-1)
        return found


class Mask(LogitsProcessor):
    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        rows = input_ids[:, self.reading.prompt :].tolist()
        return torch.stack(
            [self.reading.logprobs(tuple(row), own) for row, own in zip(rows, scores, strict=True)]
        )


class OnlyEnds(StoppingCriteria):
    """A text that can only end is over."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        rows = map(tuple, input_ids[:, self.reading.prompt :].tolist())
        found = [self.reading.after(row) for row in rows]
        return torch.tensor([text is not None and not allowed.any() for text, allowed in found])


EVERYDAY: list[dict[str, Any]] = [
    {"beams": 3, "length_penalty": 0.0, "early_stopping": "never"},
    {"beams": 4, "min_tokens": 4},
    {"beams": 8, "length_penalty": 0.5},
]
LONG: list[dict[str, Any]] = [
    {"beams": 2},
    {"beams": 4, "length_penalty": 2.0, "early_stopping": "never"},
    {"beams": 4, "early_stopping": True},
    {"beams": 5, "ignore_eos": True, "max_tokens": 5},
    {"beams": 6, "max_tokens": 20},
    {"beams": 8, "length_penalty": -1.0},
]
SETTINGS = [*EVERYDAY, *(pytest.param(each, marks=pytest.mark.slow) for each in LONG)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: str(language.fields))
def test_the_same_as_transformers_with_a_mask(
    language: Language, settings: dict[str, Any], byte_tokenizer: Tokenizer
) -> None:
    """A hypothesis scores what the model gives its text, and then leaving the language."""
    model, module = tiny("llama")
    engine = Engine.of(model, byte_tokenizer, EngineConfig(num_blocks=2_000))
    fields: dict[str, Any] = {"max_tokens": 10} | settings
    params = SamplingParams(**fields)
    prompts = random_prompts(4, (17,))
    tokens = [tuple(encoded(engine, prompt)) for prompt in prompts]
    reading = Reading(language, engine, len(tokens[0]), params)
    expected = by_transformers(
        module,
        tokens,
        params,
        # Transformers looks at as many times the beams as there are ends; ruled-out bytes are none.
        [*reading.ends, *range(200, 207)],
        logits_processor=LogitsProcessorList([Mask(reading)]),
        stopping_criteria=StoppingCriteriaList([OnlyEnds(reading)]),
    )
    compared = 0
    for n in (1, params.beams):
        found = by_ramet(engine, prompts, params, n, **language.fields)
        for ours, theirs in zip(found, expected, strict=True):
            whole = [unfilled(each, reading) for each in theirs if each.score > -1e5]
            whole = [each for each in whole if is_whole(each, reading)][:n]
            compared += len(whole)
            assert [each.tokens for each in ours[: len(whole)]] == [each.tokens for each in whole]
            for one, other in zip(ours, whole, strict=False):
                assert one.score == pytest.approx(other.score, abs=WITHIN, rel=1e-6)
    assert compared > 0


def unfilled(hypothesis: Scored, reading: Reading) -> Scored:
    """Without the end with which transformers fills the row of a text that can only end."""
    *body, last = hypothesis.tokens
    text, allowed = reading.after(tuple(body))
    over = last in reading.ends and text is not None and not allowed.any()
    return Scored(tuple(body), hypothesis.score) if over else hypothesis


def is_whole(hypothesis: Scored, reading: Reading) -> bool:
    """Those that the limit cut may be none."""
    tokens = hypothesis.tokens
    return tokens[-1] in reading.ends or reading.whole(tokens)

"""Searches in the engine on a model that can be worked out, held against what they must find."""

from functools import cache
from typing import Any

import pytest
import torch

import ramet
from ramet.params import SamplingParams
from ramet.runtime import Engine, Finished
from ramet.runtime.tokenizer import Piece
from ramet.runtime.values import GenInfo
from tests.runtime.beams import Scored, Tokens, plainly
from tests.runtime.conftest import TOY_EOS, TOY_VOCAB, random_logits

LETTERS = "abcdefgh "
PROMPT = "the beginning"  # 13 tokens


def tokens_of(engine: Engine, text: str) -> list[int]:
    return engine.tokenizer.encode([Piece(text)], start=True)


def letters(engine: Engine, *others: int) -> tuple[int, ...]:
    """`allowed_tokens`: a few letters, the end, and these."""
    return (*tokens_of(engine, LETTERS), TOY_EOS, *others)


def expected(engine: Engine, text: str, params: SamplingParams) -> list[Scored]:
    """What the search finds, worked out without any cache."""
    prompt = tokens_of(engine, text)
    ends = {*params.stop_tokens} | (set() if params.ignore_eos else {TOY_EOS})
    stops = (params.stop,) if isinstance(params.stop, str) else params.stop
    ruled_out = sorted(set(range(TOY_VOCAB)) - set(params.allowed_tokens or range(TOY_VOCAB)))

    @cache
    def logprobs(tokens: Tokens) -> list[float]:
        row = [*prompt, *tokens]
        found = random_logits([(token, place) for place, token in enumerate(row)]).log_softmax(-1)
        found[ruled_out] = -torch.inf
        if len(tokens) < params.min_tokens:
            found[[*ends, TOY_EOS]] = -torch.inf
        return found.tolist()

    def ended(tokens: Tokens) -> bool:
        text = engine.tokenizer.decode(list(tokens))
        return tokens[-1] in ends or any(stop in text for stop in stops)

    return plainly(logprobs, ended, params, params.max_tokens).hypotheses


def info(done: Finished, name: str = "best") -> GenInfo:
    found = done.info(name)
    assert isinstance(found, GenInfo)
    return found


@ramet.program
def search(s: ramet.State, text: str, params: Any) -> None:
    s += text
    s += ramet.gen("best", **params.to_dict())


def params_of(engine: Engine, **fields: Any) -> SamplingParams:
    defaults: dict[str, Any] = {"beams": 4, "max_tokens": 9, "allowed_tokens": letters(engine)}
    return SamplingParams(**defaults | fields)


def check(engine: Engine, done: Finished, text: str, params: SamplingParams) -> None:
    """The best hypothesis is the expected one; with `n` as many as there are beams, all are."""
    wanted, found = expected(engine, text, params), done.info("best")
    ends = {TOY_EOS, *params.stop_tokens}
    visible = [engine.tokenizer.decode([t for t in each if t not in ends]) for each, _ in wanted]
    if isinstance(found, GenInfo):
        assert found.tokens == wanted[0].tokens
        assert found.text == found.texts[0] == visible[0]
        assert found.score == found.scores[0] == pytest.approx(wanted[0].score, abs=1e-5)
        assert list(found.scores) == sorted(found.scores, reverse=True)
        assert done.text == text + found.text
        return
    infos: Any = found
    assert infos.tokens == [each.tokens for each in wanted[: params.n]]
    assert infos.text == visible[: params.n]
    assert infos.score == pytest.approx([each.score for each in wanted[: params.n]], abs=1e-5)
    assert params.n < params.beams or infos.scores[0] == tuple(infos.score)

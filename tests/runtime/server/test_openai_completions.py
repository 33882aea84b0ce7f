"""`/v1/completions`, asked by OpenAI's own client."""

from collections.abc import Iterable
from typing import Any

import openai
import pytest
from openai.types import Completion

from ramet.runtime import Engine
from ramet.runtime.tokenizer import Piece
from tests.runtime.conftest import toy_text, toy_words
from tests.runtime.server.live import Live

GREEDY: dict[str, Any] = {"model": "toy", "temperature": 0}


def encoded(engine: Engine, text: str) -> list[int]:
    return engine.tokenizer.encode([Piece(text)], start=True)


def put_together(chunks: Iterable[Completion]) -> dict[int, dict[str, Any]]:
    """What the chunks of a stream come to, by choice."""
    found: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            each = found.setdefault(choice.index, {"text": "", "finish": None, "logprobs": None})
            assert each["finish"] is None, "nothing comes after the end"
            each["text"] += choice.text
            each["finish"] = choice.finish_reason
            if choice.logprobs is not None:
                each["logprobs"] = each["logprobs"] or {}
                for name, values in choice.logprobs.model_dump().items():
                    each["logprobs"].setdefault(name, []).extend(values)
    return found


def whole(answer: Completion) -> dict[int, dict[str, Any]]:
    return {
        choice.index: {
            "text": choice.text,
            "finish": choice.finish_reason,
            "logprobs": None if choice.logprobs is None else choice.logprobs.model_dump(),
        }
        for choice in answer.choices
    }


def test_the_text_is_the_models(served: Live) -> None:
    answer = served.openai.completions.create(prompt="Once", max_tokens=12, **GREEDY)
    [choice] = answer.choices
    assert choice.text == toy_words(served.engine.tokenizer, "Once", 12)
    assert (choice.finish_reason, choice.index, answer.model) == ("length", 0, "toy")
    assert answer.usage is not None
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 4,
        "completion_tokens": 12,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_what_was_cached_is_told(served: Live) -> None:
    prompt = "what no other test began with, " * 2
    cached = []
    for _ in range(2):
        answer = served.openai.completions.create(prompt=prompt, max_tokens=1, **GREEDY)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        cached.append(answer.usage.prompt_tokens_details.cached_tokens)
    assert cached == [0, len(prompt) // 16 * 16]  # whole blocks outlive a request


def test_texts_and_tokens_one_or_many(served: Live) -> None:
    texts = ["one", "two", "one"]
    tokens = [encoded(served.engine, text) for text in texts]
    create = served.openai.completions.create
    many = create(prompt=texts, max_tokens=6, **GREEDY)
    assert [choice.index for choice in many.choices] == [0, 1, 2]
    expected = [toy_words(served.engine.tokenizer, text, 6) for text in texts]
    assert [choice.text for choice in many.choices] == expected
    assert [c.text for c in create(prompt=tokens, max_tokens=6, **GREEDY).choices] == expected
    [choice] = create(prompt=tokens[1], max_tokens=6, **GREEDY).choices
    assert choice.text == expected[1]
    assert many.usage is not None
    assert (many.usage.prompt_tokens, many.usage.completion_tokens) == (9, 18)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n": 3, "temperature": 1.5, "seed": 5},
        {"logprobs": 2},
        {"logprobs": 0, "n": 2, "temperature": 1.0, "seed": 1, "stop": ["a", "b", "c"]},
        {"echo": True},
        {"echo": True, "logprobs": 1, "n": 2, "temperature": 0.9, "seed": 1},
        {"echo": True, "logprobs": 3, "max_tokens": 0},
        {"max_tokens": 0},
        {"stop": "e", "max_tokens": 64},
        {"extra_body": {"beams": 4}},
        {"extra_body": {"beams": 3}, "n": 2, "logprobs": 1},
        {"extra_body": {"regex": "[a-z]{3,9}"}, "logprobs": 1},
        {"extra_body": {"choice": ["left", "right"]}},
        {"prompt": ["a", "bb", "a"], "echo": True, "n": 2, "temperature": 1, "seed": 2},
    ],
)
def test_a_stream_says_what_the_answer_says(served: Live, settings: dict[str, Any]) -> None:
    request = {**GREEDY, "prompt": "the träin", "max_tokens": 24, **settings}
    answer = served.openai.completions.create(**request)
    stream = served.openai.completions.create(
        **request, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    told = put_together(chunks)
    assert told == whole(answer)
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert answer.usage is not None
    assert chunks[-1].usage.total_tokens == answer.usage.total_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_logprobs_are_of_each_token_and_begin_where_it_does(served: Live) -> None:
    answer = served.openai.completions.create(prompt="né", max_tokens=20, logprobs=3, **GREEDY)
    [choice] = answer.choices
    told = choice.logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.token_logprobs is not None
    assert told.top_logprobs is not None
    assert told.text_offset is not None
    lengths = {len(told.tokens), len(told.token_logprobs), len(told.top_logprobs)}
    assert lengths == {len(told.text_offset)} == {20}
    for token, logprob, likeliest in zip(
        told.tokens, told.token_logprobs, told.top_logprobs, strict=True
    ):
        assert likeliest[token] == logprob == max(likeliest.values())
        assert 1 <= len(likeliest) <= 4
    for token, offset in zip(told.tokens, told.text_offset, strict=True):
        if not token.startswith("bytes:"):
            assert choice.text[offset:].startswith(token)


def test_a_prompt_is_scored_for_those_who_ask(served: Live) -> None:
    """What evaluation harnesses do to find how likely a text is."""
    answer = served.openai.completions.create(
        prompt="abcd", max_tokens=1, logprobs=1, echo=True, **GREEDY
    )
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.token_logprobs is not None
    assert told.top_logprobs is not None
    assert told.tokens[:4] == ["a", "b", "c", "d"]
    first, *others = told.token_logprobs
    assert first is None  # type: ignore[comparison-overlap]
    assert len(others) == 4
    assert told.text_offset == [0, 1, 2, 3, 4]
    generated = encoded(served.engine, "abcd")
    [best] = toy_text(generated[:3], 1)
    spelled = served.engine.tokenizer.decode([best]) or "<eos>"
    likeliest = told.top_logprobs[3]
    assert likeliest["d"] == told.token_logprobs[3]
    assert len(likeliest) == 2
    assert max(likeliest, key=lambda token: likeliest[token]) != "d"
    assert spelled in likeliest or any(token.startswith("bytes:") for token in likeliest)


def test_stops_are_no_part_of_the_text(served: Live) -> None:
    free = served.openai.completions.create(prompt="stop it", max_tokens=40, **GREEDY)
    text = free.choices[0].text
    stop = text[10:12]
    cut = served.openai.completions.create(prompt="stop it", max_tokens=40, stop=stop, **GREEDY)
    assert cut.choices[0].text == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_samples_differ_and_seeds_repeat(served: Live) -> None:
    def texts(**settings: Any) -> list[str]:
        answer = served.openai.completions.create(
            model="toy", prompt="dice", max_tokens=8, n=4, temperature=2.0, **settings
        )
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 4
        return [choice.text for choice in answer.choices]

    seeded = texts(seed=-3)
    assert len(set(seeded)) == 4
    assert texts(seed=-3) == seeded
    assert texts(seed=4) != seeded
    assert texts() != texts()
    assert len(set(texts(extra_body={"temperature": 0}))) == 1


def test_the_best_of_many_is_the_likeliest(served: Live) -> None:
    request: dict[str, Any] = {
        "model": "toy", "prompt": "best", "max_tokens": 6, "temperature": 2.0, "seed": 9,
        "extra_body": {"ignore_eos": True},
    }  # fmt: skip
    create = served.openai.completions.create
    drawn = create(**request, n=5, logprobs=0).choices

    def mean(choice: Any) -> float:
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    best = sorted(drawn, key=mean, reverse=True)[:2]
    answer = create(**request, n=2, best_of=5)
    assert [choice.text for choice in answer.choices] == [choice.text for choice in best]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == sum(len(c.logprobs.tokens) for c in drawn)  # type: ignore[union-attr, arg-type]


def test_a_raw_prompt_spells_control_tokens_unless_told_not_to(served: Live) -> None:
    def length(**extra: Any) -> int:
        answer = served.openai.completions.create(
            prompt="a<eos>b", max_tokens=1, extra_body=extra, **GREEDY
        )
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    assert length() == 3
    assert length(parse_special=False) == len("a<eos>b")


def test_text_of_a_type(served: Live) -> None:
    def text(**extra: Any) -> str:
        answer = served.openai.completions.create(
            prompt="number:", max_tokens=40, extra_body=extra, **GREEDY
        )
        assert answer.choices[0].finish_reason == "stop"
        return answer.choices[0].text

    assert text(regex="[0-9]{4}").isdecimal()
    assert text(choice=["yes", "no"]) in ("yes", "no")
    assert text(grammar='start: "(" /[ab]{3}/ ")"')[0] == "("


def test_closing_a_stream_cancels(served: Live) -> None:
    stream = served.openai.completions.create(
        prompt="go on and on", max_tokens=3000, n=3, stream=True, model="toy", temperature=1.5
    )
    with stream:
        next(iter(stream))
    assert served.all_back()


def test_a_client_that_gives_up_cancels(served: Live) -> None:
    with pytest.raises(openai.APITimeoutError):
        served.openai.with_options(timeout=0.15).completions.create(
            prompt="never", max_tokens=4000, **GREEDY, extra_body={"ignore_eos": True}
        )
    assert served.all_back()

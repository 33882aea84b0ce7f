"""Values of a run in expressions of a program in text: what only an engine can make."""

from typing import Any

import pytest

import ramet
from ramet.runtime import Engine
from tests.runtime.conftest import ToyEngine
from tests.runtime.legible import legible


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Engine:
    return legible(toy_engine())


def value_of(engine: Engine, line: str, expression: str) -> Any:
    return engine.run(
        ramet.loads(f'program p():\n    "Q: "\n    {line}\n    return {{v: {expression}}}\n')
    ).value["v"]


SAMPLES = "gen x(n=2, temperature=1.0, max_tokens=3)"
CARD = 'gen x: json({"const": {"a": [1, 2]}})'


def test_a_generated_list_is_joined_to_another(engine: Engine) -> None:
    assert value_of(engine, CARD, "x.a + [3]") == [1, 2, 3]
    assert value_of(engine, CARD, "[3] + x.a") == [3, 1, 2]
    assert len(value_of(engine, SAMPLES, 'x + ["c"]')) == 3


def test_the_texts_of_samples_are_a_list(engine: Engine) -> None:
    texts = value_of(engine, SAMPLES, "x.text")
    assert isinstance(texts, list)
    assert value_of(engine, SAMPLES, '"{x.text}"') == value_of(engine, SAMPLES, '"{x}"')


def test_a_returned_text_has_values_as_they_were_generated(engine: Engine) -> None:
    assert value_of(engine, CARD, '"{x}"') == '{"a": [1, 2]}'
    assert value_of(engine, CARD, 'join([x], ",")') == '{"a": [1, 2]}'
    assert value_of(engine, CARD, 'len("{x}")') == 13

    @ramet.program
    def p(s: ramet.State) -> object:
        s += "Q: " + ramet.gen("x", json_schema={"const": {"a": [1, 2]}})
        return "got " + s["x"]

    assert engine.run(p).value == 'got {"a": [1, 2]}'


def test_the_record_of_a_token_is_a_map(engine: Engine) -> None:
    line = "gen x(max_tokens=1, logprobs=1)"
    token, logprob = value_of(engine, line, "[x.logprobs[0].token, x.logprobs[0].logprob]")
    assert [token] == value_of(engine, line, "[t for t in x.tokens]")
    assert logprob < 0
    assert value_of(engine, line, '"{x.logprobs}"').startswith(f'[{{"token": {token}, ')


def test_a_key_is_hidden_only_by_an_attribute_of_a_gen(engine: Engine) -> None:
    line = 'gen x: json({"const": {"mean": 1, "probs": 2, "text": 3}})'
    assert value_of(engine, line, '[x.mean, x.probs, x["text"]]') == [1, 2, 3]
    assert value_of(engine, line, "x.text") == '{"mean": 1, "probs": 2, "text": 3}'


def test_gathered_values_in_an_f_string_are_the_list(engine: Engine) -> None:
    @ramet.program
    def p(s: ramet.State) -> object:
        s += "Q: "
        branches = s.fork(2)
        for branch in branches:
            branch += ramet.gen("x", max_tokens=1)
        return [f"{branches['x']}", branches["x"]]

    text, values = engine.run(p).value
    assert text == str(values)


def test_what_is_said_of_a_list_that_is_appended(engine: Engine) -> None:
    @ramet.program
    def p(s: ramet.State) -> None:
        s += "Q: "
        values: Any = ["a"]
        s += values

    with pytest.raises(
        ramet.AppendError, match=r"not a list; ramet.join\(...\) makes one of several"
    ):
        engine.run(p)

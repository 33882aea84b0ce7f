import inspect
import json
from dataclasses import replace
from typing import Any

import pytest

from ramet.errors import ParameterError
from ramet.expressions import gen
from ramet.params import SAMPLING_FIELDS, SamplingParams

NAN, INF = float("nan"), float("inf")

BAD: dict[str, list[object]] = {
    "max_tokens": [0, -1, 65_537, 1.0, True, None, "8", [8]],
    "min_tokens": [-1, 65_537, 1.5, False, None],
    "n": [0, 17, -1, True, 2.0, None],
    "best_of": [0, 17, -1, True, 2.0, None],
    "beams": [0, 65, -1, True, 2.0, None],
    "length_penalty": [-10.1, 10.1, NAN, INF, True, "1", None],
    "early_stopping": [0, 1, None, "yes", "always"],
    "temperature": [-0.1, 101, NAN, INF, True, "1", None, 10**400],
    "top_p": [0, -0.1, 1.1, NAN, None, True],
    "top_k": [-1, 2**31, 1.0, True, None],
    "min_p": [-0.1, 1.1, NAN, None],
    "repetition_penalty": [0, -1, 101, NAN, INF, None],
    "presence_penalty": [-2.1, 2.1, NAN, None],
    "frequency_penalty": [-2.1, 2.1, NAN, None],
    "logit_bias": [
        5,
        "5",
        [5],
        {-1: 1},
        {True: 1},
        {"x": 1},
        {"1.0": 1},
        {5: NAN},
        {5: 101},
        {5: None},
        {5: 1, "5": 1},
        dict.fromkeys(range(1_025), 1),
    ],
    "allowed_tokens": [[], 5, "5", [-1], [2**31], [True], [1.0], range(1_025)],
    "heal": [0, 1, None, "yes"],
    "stop": [5, None, "", ["a", ""], [5], ["a"] * 17, "x" * 257, "\u20ac" * 86, "\ud800", b"a"],
    "stop_tokens": [5, None, [-1], ["a"], [True], range(1_025)],
    "stop_regex": [5, "", "(", "a*", "^", "x" * 4_097, "(" * 2_000, "\ud800", b"a"],
    "ignore_eos": [0, 1, None, "yes"],
    "logprobs": [-1, 21, True, 1.0, "1"],
    "seed": [-1, 2**64, True, 1.0, "1"],
}

GOOD: dict[str, list[object]] = {
    "max_tokens": [1, 65_536],
    "min_tokens": [0, 128],
    "beams": [1, 64],
    "length_penalty": [-10, 10, 0],
    "early_stopping": [True, False, "never"],
    "temperature": [0, 100, 0.7],
    "top_p": [1e-6, 1],
    "top_k": [0, 2**31 - 1],
    "min_p": [0, 1],
    "repetition_penalty": [0.01, 100],
    "presence_penalty": [-2, 2],
    "frequency_penalty": [-2, 2],
    "logit_bias": [{}, {0: -100, 2**31 - 1: 100}, [(3, 1.5)], {"3": 1.5}],
    "allowed_tokens": [None, [0], range(1_024)],
    "stop": ["x", [], ["x"] * 16, "x" * 256, "\u20ac" * 85],
    "stop_tokens": [[], [0, 2**31 - 1]],
    "stop_regex": [None, "a+", r"\d{3}", "x" * 4_096],
    "heal": [True, False],
    "ignore_eos": [True, False],
    "logprobs": [None, 0, 20],
    "seed": [None, 0, 2**64 - 1],
}


def pairs(table: dict[str, list[object]]) -> list[tuple[str, object]]:
    return [(field, value) for field, values in table.items() for value in values]


def test_every_field_has_bad_values_here() -> None:
    assert BAD.keys() == SAMPLING_FIELDS.keys()


@pytest.mark.parametrize(("field", "value"), pairs(BAD))
def test_a_bad_value_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        SamplingParams(**{field: value})
    allowed = SAMPLING_FIELDS[field].metadata["domain"].allowed
    assert caught.value.message.startswith(f"{field} must be {allowed}, not ")
    assert caught.value.field == field
    assert caught.value.value is value
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("field", "value"), pairs(GOOD))
def test_a_good_value_survives_json(field: str, value: Any) -> None:
    params = SamplingParams(**{field: value})
    assert SamplingParams.from_dict(json.loads(json.dumps(params.to_dict()))) == params
    assert hash(params) == hash(replace(params))


def test_the_message_says_what_is_allowed() -> None:
    with pytest.raises(ParameterError) as caught:
        SamplingParams(temperature=-1)
    assert str(caught.value) == "temperature must be a number from 0 to 100, not -1"


def test_stored_forms() -> None:
    params = SamplingParams(
        logit_bias={7: 1, 3: -1}, stop="\n", stop_tokens=[5, 2, 5], allowed_tokens=[9, 4]
    )
    assert params.logit_bias == ((3, -1.0), (7, 1.0))
    assert dict(params.logit_bias) == {3: -1.0, 7: 1.0}
    assert params.stop == ("\n",)
    assert params.stop_tokens == (2, 5)
    assert params.allowed_tokens == (4, 9)


def test_contradictions() -> None:
    with pytest.raises(ParameterError) as caught:
        SamplingParams(min_tokens=9, max_tokens=8)
    assert str(caught.value) == "min_tokens is 9, but max_tokens is only 8"
    with pytest.raises(ParameterError) as caught:
        SamplingParams(n=2)
    assert str(caught.value) == (
        "n is 2, but at temperature 0 all samples would be equal; set a temperature over 0"
    )
    assert SamplingParams(n=16, temperature=0.5).n == 16


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"n": 4, "best_of": 3, "temperature": 1},
            "best_of is 3, but n is 4: no more can be kept than are drawn",
        ),
        (
            {"best_of": 3},
            "best_of is 3, but at temperature 0 all samples would be equal; "
            "set a temperature over 0",
        ),
        (
            {"best_of": 3, "beams": 2},
            "best_of is 3, and beams 2: a beam search does not sample; leave one of them out",
        ),
    ],
)
def test_what_best_of_contradicts(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        SamplingParams(**fields)
    assert str(caught.value) == says
    assert caught.value.field == "best_of"


def test_defaults_are_left_out() -> None:
    assert SamplingParams().to_dict() == {}
    assert SamplingParams(temperature=0.5, stop=["a", "b"], logit_bias={3: 1}).to_dict() == {
        "temperature": 0.5,
        "logit_bias": {"3": 1.0},
        "stop": ["a", "b"],
    }


def test_an_unknown_name_is_refused_with_a_near_miss() -> None:
    with pytest.raises(ParameterError) as caught:
        SamplingParams.from_dict({"temprature": 1})
    assert str(caught.value) == (
        "unknown sampling parameter 'temprature'; did you mean 'temperature'?"
    )
    assert caught.value.field == "temprature"


def test_every_field_has_its_sentence() -> None:
    for field in SAMPLING_FIELDS.values():
        assert field.metadata["says"].endswith(".")


def test_gen_takes_exactly_these_fields() -> None:
    name, *keywords = inspect.signature(gen).parameters
    assert name == "name"
    assert keywords == [*SAMPLING_FIELDS, "type", "regex", "json_schema", "grammar", "choices"]

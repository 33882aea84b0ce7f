"""Integers get bounds where a schema has none, and nothing else of it changes."""

import json
import random
from typing import Any

import jsonschema
import pytest

from ramet.runtime.grammar import GrammarCompiler
from ramet.runtime.grammar.schema import MOST, prepared
from ramet.types import json_type
from tests.runtime.grammar.walks import random_schema, walk
from tests.runtime.tokenizers import byte_level

BOUNDED = {"type": "integer", "minimum": -MOST, "maximum": MOST}
INTEGER = {"type": "integer"}


def bare(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in prepared(schema).items() if key != "x-guidance"}


@pytest.mark.parametrize(
    "around",
    [
        lambda x: x,
        lambda x: {"type": "array", "items": x},
        lambda x: {"prefixItems": [x, True]},
        lambda x: {"anyOf": [{"type": "null"}, {"properties": {"enum": x}}]},
        lambda x: {"$ref": "#/$defs/n", "$defs": {"n": x}},
        lambda x: {"additionalProperties": x},
    ],
)
def test_integers_are_bounded_wherever_they_are(around: Any) -> None:
    assert bare(around(INTEGER)) == around(BOUNDED)


@pytest.mark.parametrize("bound", ["minimum", "exclusiveMinimum"])
def test_an_integer_bounded_below_is_bounded_above(bound: str) -> None:
    schema = {"type": "integer", bound: 0}
    assert bare(schema) == {**schema, "maximum": MOST}


@pytest.mark.parametrize("bound", ["maximum", "exclusiveMaximum"])
def test_an_integer_bounded_above_is_bounded_below(bound: str) -> None:
    schema = {"type": "integer", bound: 0}
    assert bare(schema) == {**schema, "minimum": -MOST}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 10**20},
        {"type": "integer", "maximum": "none"},
        {"type": "integer", "minimum": -3, "maximum": 3},
        {"type": "integer", "multipleOf": 7},
        {"type": ["integer", "number"]},
        {"type": "number"},
        {"enum": [INTEGER], "default": INTEGER},
        {"const": {"items": INTEGER}},
        {"properties": {"type": {"type": "string"}}},
        {"items": [], "anyOf": 3, "properties": None},
    ],
)
def test_all_else_stays(schema: dict[str, Any]) -> None:
    assert bare(schema) == schema


def test_a_schemas_own_layout_is_not_looked_at() -> None:
    assert prepared({"x-guidance": {"lenient": True}}) == prepared({})


def test_keys_keep_their_order() -> None:
    schema = {"required": ["b"], "properties": {"b": INTEGER, "a": {}}, "type": "object"}
    assert list(bare(schema)) == list(schema)
    assert list(bare(schema)["properties"]) == ["b", "a"]


def test_what_is_valid_afterwards_was_valid_before() -> None:
    rng = random.Random(14)
    for _ in range(100):
        schema = dict(random_schema(rng))
        jsonschema.Draft202012Validator.check_schema(prepared(schema))
        for value in (7, -3, "add", None, True, [], {}, {"x": 1}, [1, "a"]):
            after = jsonschema.Draft202012Validator(bare(schema)).is_valid(value)
            assert after == jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.fixture(scope="module")
def grammars() -> GrammarCompiler:
    tokenizer = byte_level()
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)


def drawn(grammars: GrammarCompiler, schema: dict[str, Any], seed: int) -> Any:
    """What a random walk writes, until it can only end."""
    grammar = grammars.start(json_type(schema))
    tokens = walk(grammar, random.Random(seed), 80, ending=0)
    assert grammar.finished
    return json.loads(b"".join(map(byte_level().token_bytes, tokens)))


@pytest.mark.parametrize(
    "bounds",
    [
        {"minimum": 2**53 - 1, "maximum": 2**53 + 1},
        {"minimum": 2**53 + 1, "maximum": 2**53 + 3},
        {"exclusiveMinimum": 2**53, "exclusiveMaximum": 2**53 + 5},
        {"minimum": 2**54 + 2, "exclusiveMinimum": 2**54, "maximum": 2**54 + 7},
        {"minimum": -(2**53) - 3, "maximum": -(2**53) - 1},
        {"minimum": 10**18 - 257, "maximum": 10**18 - 1},
        {"minimum": 10**18 - 129, "exclusiveMaximum": 10**18},
        {"minimum": 1.0 - 10**18, "maximum": 127 - 10**18},
        {"minimum": 10**18 - 129},
        {"maximum": 129 - 10**18},
    ],
    ids=str,
)
def test_no_integer_is_beyond_a_bound_that_is_no_double(
    grammars: GrammarCompiler, bounds: dict[str, Any]
) -> None:
    schema = {"type": "integer", **bounds}
    for seed in range(20):
        value = drawn(grammars, schema, seed)
        assert jsonschema.Draft202012Validator(schema).is_valid(value), value
        assert abs(value) < 10**18 or abs(value) <= abs(bounds.get("minimum", 0))


def test_bounds_are_rounded_inward() -> None:
    def rounded(**bounds: Any) -> dict[str, Any]:
        return bare({**INTEGER, **bounds, "multipleOf": 1})

    def doubles(**bounds: Any) -> dict[str, Any]:
        return {**INTEGER, **bounds, "multipleOf": 1}

    big = 2**53
    assert rounded(minimum=big + 1, maximum=big + 3) == doubles(minimum=big + 2, maximum=big + 2)
    assert rounded(exclusiveMinimum=big + 2) == doubles(minimum=big + 4)
    assert rounded(minimum=0, exclusiveMaximum=10**18) == doubles(minimum=0, maximum=MOST)
    assert rounded(maximum=big, exclusiveMaximum=10**18) == doubles(maximum=big)
    assert float(MOST) == MOST
    assert float(MOST + 1) != MOST + 1
    assert float(MOST + 65) == 10**18
    huge = 10**400
    assert rounded(minimum=-huge, maximum=huge) == doubles(minimum=-huge, maximum=huge)


def test_an_integer_ends(grammars: GrammarCompiler) -> None:
    for seed in range(20):
        row = {"type": "array", "items": INTEGER, "maxItems": 2}
        assert all(abs(value) <= MOST for value in drawn(grammars, row, seed))

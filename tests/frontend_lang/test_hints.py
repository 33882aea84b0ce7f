"""What `gen(type=...)` takes, and the types that come of it."""

import datetime
import decimal
import enum
import json
import re
import uuid
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypeVar

import pytest
from pydantic import UUID4, BaseModel, ConfigDict, Discriminator, Field, IPvAnyAddress
from typing_extensions import TypedDict

import ramet
from ramet.errors import ParameterError
from ramet.hints import type_of
from ramet.types import Type, choice_type, value_of


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Card(BaseModel):
    """A person."""

    name: Annotated[str, Field(min_length=1, max_length=9, pattern="^[a-z]+$", title="Name")]
    age: Annotated[int, Field(ge=0, le=99, description="in years")] = 30
    mood: Mood | None = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    title: str


class Twig(BaseModel):
    label: int
    twigs: list["Twig"] = []


@dataclass
class Point:
    x: int
    y: float = 0.5
    tags: set[str] = field(default_factory=set)


class Pair(NamedTuple):
    left: int
    right: bool


class Entry(TypedDict):
    word: str


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]


def schema(hint: Any) -> Any:
    found = type_of(hint)
    assert found is not None
    assert found.kind == "json"
    return json.loads(found.source)


def read(hint: Any, text: str) -> Any:
    return value_of(type_of(hint), text)


# -- what a hint becomes


@pytest.mark.parametrize(
    ("hint", "type"),
    [
        (None, None),
        (str, None),
        ("str", None),
        (int, Type("int")),
        ("float", Type("float")),
        (bool, Type("bool")),
        (Type("regex", "a+"), Type("regex", "a+")),
        (Literal["b", "a", "b"], choice_type(["b", "a"])),
        (Mood, choice_type(["good", "bad"])),
    ],
)
def test_plain_hints(hint: Any, type: Type | None) -> None:
    assert type_of(hint) == type


OBJECT = {"type": "object", "additionalProperties": False}


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
        (Literal[1, "a", None], {"enum": [1, "a", None]}),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (Any, {}),
        (set[int], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
            },
        ),
        (Annotated[int, Field(gt=3, multiple_of=5)], None),
        (decimal.Decimal, {"type": "number"}),
        (dict[Literal["a"], int], OBJECT | {"properties": {"a": {"type": "integer"}}}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (object, {}),
        (
            dict[Literal["a", "b"], int],
            OBJECT | {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
        ),
        (
            dict[Mood, int],
            OBJECT
            | {"$defs": {"Mood": {"enum": ["good", "bad"], "type": "string"}}}
            | {"properties": {"good": {"type": "integer"}, "bad": {"type": "integer"}}},
        ),
        (Entry, OBJECT | {"properties": {"word": {"type": "string"}}, "required": ["word"]}),
        (
            Open,
            {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
            | {"additionalProperties": True},
        ),
        (
            Annotated[Cat | Dog, Discriminator("kind")],
            {
                "$defs": {
                    "Cat": OBJECT
                    | {
                        "properties": {
                            "kind": {"const": "cat", "type": "string"},
                            "lives": {"type": "integer"},
                        },
                        "required": ["kind", "lives"],
                    },
                    "Dog": OBJECT
                    | {
                        "properties": {"kind": {"const": "dog", "type": "string"}},
                        "required": ["kind"],
                    },
                },
                "anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
            },
        ),
    ],
    ids=str,
)
def test_hints_as_schemas(hint: Any, expected: dict[str, Any] | None) -> None:
    if expected is None:
        expected = {"type": "integer", "exclusiveMinimum": 3, "multipleOf": 5}
    assert schema(hint) == expected


def test_a_model_is_closed_and_says_nothing_but_what_the_text_must_be() -> None:
    assert schema(Card) == OBJECT | {
        "$defs": {"Mood": {"enum": ["good", "bad"], "type": "string"}},
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^[a-z]+$"},
            "age": {"type": "integer", "minimum": 0, "maximum": 99},
            "mood": {"anyOf": [{"$ref": "#/$defs/Mood"}, {"type": "null"}]},
        },
        "required": ["name"],
    }


def test_a_field_may_have_the_name_of_a_keyword() -> None:
    class Named(BaseModel):
        title: str
        default: int
        format: Literal["a"]

    assert list(schema(Named)["properties"]) == ["title", "default", "format"]


def test_a_default_that_is_no_json_is_no_matter() -> None:
    @dataclass
    class Held:
        what: Any = field(default_factory=object)
        size: decimal.Decimal = decimal.Decimal("1.5")

    assert schema(Held)["properties"] == {"what": {}, "size": {"type": "number"}}


def test_recursion_stays_a_reference() -> None:
    twig = schema(Twig)
    assert twig["$ref"] == "#/$defs/Twig"
    assert twig["$defs"]["Twig"]["properties"]["twigs"]["items"] == {"$ref": "#/$defs/Twig"}


def test_the_same_hint_is_adapted_once() -> None:
    assert type_of(list[Card]) is type_of(list[Card])
    unhashable = Annotated[int, Field(json_schema_extra={"maximum": 3})]
    assert schema(unhashable) == {"type": "integer", "maximum": 3}


# -- what is read


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (Mood, "good", Mood.GOOD),
        (Literal["a", "b"], "a", "a"),
        (Level, "2", Level.HIGH),
        (Card, '{"name": "ada", "mood": "bad"}', Card(name="ada", mood=Mood.BAD)),
        (Point, '{"x": 1, "tags": ["a", "a"]}', Point(1, tags={"a"})),
        (Pair, "[1, true]", Pair(1, True)),
        (Entry, '{"word": "a"}', {"word": "a"}),
        (list[Point], '[{"x": 2}]', [Point(2)]),
        (Card | None, "null", None),
        (Cat | Dog, '{"kind": "dog"}', Dog(kind="dog")),
        (datetime.date, '"2024-02-29"', datetime.date(2024, 2, 29)),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (IPvAnyAddress, '"10.0.0.1"', IPv4Address("10.0.0.1")),
        (Twig, '{"label": 1, "twigs": [{"label": 2}]}', Twig(label=1, twigs=[Twig(label=2)])),
    ],
    ids=str,
)
def test_a_text_becomes_an_instance(hint: Any, text: str, value: object) -> None:
    found = read(hint, text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("hint", "text", "said"),
    [
        (Mood, "goo", "it is no member"),
        (datetime.date, '"2023-02-29"', "date"),
        (Card, '{"name": "ada", "age": 200}', "age: Input should be less than or equal to 99"),
        (UUID4, '"00000000-0000-1000-8000-000000000000"', "UUID version 4 expected"),
    ],
    ids=str,
)
def test_a_text_that_its_class_refuses(hint: Any, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        read(hint, text)
    assert "https" not in str(caught.value)


def test_the_reader_is_no_part_of_the_type() -> None:
    made = type_of(Card)
    assert made is not None
    assert made == Type("json", made.source)
    assert hash(made) == hash(Type("json", made.source))
    assert "reader" not in repr(made)


# -- mistakes


class Bare:
    pass


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("integer", "not 'integer'; did you mean 'int'?"),
        (3, "type must be int, float, bool, str, a Literal, an Enum, a dataclass, a TypedDict"),
        (Bare, "not Bare: Unable to generate pydantic-core schema"),
        (list[Bare], "Unable to generate pydantic-core schema"),
        pytest.param(lambda: None, "not a function", id="a function"),
        (Annotated[str, Field(pattern="(?=a)")], "regex parse error"),
        (Card(name="a"), "not a Card"),
        (Literal["a", ""], "an option is empty"),
    ],
    ids=str,
)
def test_what_is_no_type(hint: Any, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        ramet.gen("x", type=hint)
    assert said in str(caught.value)
    assert "test_hints.py" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": int, "choices": ["a"]}, "gen takes one of type and choices"),
        ({"regex": "a", "json_schema": {}}, "gen takes one of regex and json_schema"),
        (
            {"type": Card, "regex": "a", "grammar": "b"},
            "gen takes one of type and regex and grammar",
        ),
    ],
)
def test_types_that_contradict(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        ramet.gen("x", **fields)


# -- formats


@pytest.mark.parametrize(
    ("hint", "texts", "others"),
    [
        (
            datetime.date,
            ["2024-02-29", "2000-02-29", "1999-12-31", "2023-11-30"],
            ["2023-02-29", "1900-02-29", "2023-11-31", "2023-13-01", "2023-00-10", "0999-01-01"],
        ),
        (
            datetime.time,
            ["00:00:00", "23:59:59.123456", "12:00:00Z", "12:00:00+02:00"],
            ["24:00:00", "12:00:60", "12:00", "12:00:00z"],
        ),
        (
            datetime.datetime,
            ["2024-02-29T12:00:00", "2023-01-01T00:00:00Z"],
            ["2023-02-29T12:00:00", "2023-01-01 00:00:00"],
        ),
        (
            datetime.timedelta,
            ["P1D", "PT5S", "P3DT4H", "PT1H30M", "PT90M1S", "PT1H1S"],
            ["P", "PT", "P1", "P1DT", "P123456D", "PT1S1M"],
        ),
        (
            UUID4,
            ["00000000-0000-4000-8000-000000000000"],
            ["00000000-0000-1000-8000-000000000000", "00000000-0000-4000-7000-000000000000"],
        ),
    ],
    ids=str,
)
def test_formats_are_what_pydantic_reads(hint: Any, texts: list[str], others: list[str]) -> None:
    pattern = schema(hint)["pattern"]
    for text in texts:
        assert re.search(pattern, text), text
        assert read(hint, json.dumps(text)) is not None
    assert not [text for text in others if re.search(pattern, text)]


Free = TypeVar("Free")
Number = TypeVar("Number", bound=int)


class Stranger: ...


@dataclass
class Loose:
    where: "Undefined"  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


class Blob(BaseModel):
    data: bytes


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (complex, "not complex: JSON has no complex numbers"),
        (bytes, "not bytes: JSON has texts and no bytes; use str"),
        (Blob, "not Blob: JSON has texts and no bytes; use str"),
        (type[int], "JSON has no classes"),
        (Free, "not Free: Free is a TypeVar and says nothing of the text"),
        (list[Free], "Free is a TypeVar and says nothing of the text"),  # pyright: ignore[reportGeneralTypeIssues]
        ({"type": "integer"}, "not a dict; for a JSON schema write json_schema="),
        ({str: int}, "not a dict; for a JSON schema write json_schema="),
        ([int], "not a list; did you mean list[int]?"),
        ([int, str], "not a list; did you mean tuple[int, str]?"),
        ((int, str), "not a tuple; did you mean tuple[int, str]?"),
        ([3], "not a list"),
        (Stranger, f"Unable to generate pydantic-core schema for {Stranger}"),
        (Loose, "not Loose: the name 'Undefined' in it is not defined"),
        (list["Undefined"], "the name 'Undefined' in it is not defined"),  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
    ],
    ids=str,
)
def test_what_says_nothing_of_a_text_is_refused(hint: Any, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        type_of(hint)
    assert str(caught.value).startswith("type must be int, float")
    assert str(caught.value).endswith(said)


def test_a_type_variable_with_a_bound_is_the_bound() -> None:
    assert schema(Number) == {"type": "integer"}


@pytest.mark.parametrize("hint", [Any, list[float], dict[str, int], float | None])
def test_numbers_of_an_instance_are_finite(hint: Any) -> None:
    text = '{"a": 1e400}' if hint == dict[str, int] else "[1e400]"
    with pytest.raises(ValueError, match=r"^1e400 is too large$"):
        read(hint, text)

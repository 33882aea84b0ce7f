"""The schemas of Python hints compile, and what their masks allow is what pydantic reads."""

import datetime
import enum
import random
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import UUID4, BaseModel, Discriminator, Field, IPvAnyAddress

from ramet.hints import type_of
from ramet.runtime.errors import GrammarError
from ramet.runtime.grammar import GrammarCompiler
from ramet.types import Type, choice_type, value_of
from tests.runtime.grammar.walks import walk
from tests.runtime.tokenizers import byte_level


@pytest.fixture(scope="module")
def grammars() -> GrammarCompiler:
    tokenizer = byte_level()
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)


Word = Annotated[str, Field(pattern="^[a-z]{1,4}$")]


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Twig(BaseModel):
    label: Level
    twigs: Annotated[list["Twig"], Field(max_length=2)] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


class Visit(BaseModel):
    when: datetime.time
    who: Annotated[Cat | Dog, Discriminator("kind")]
    notes: dict[Literal["a", "b"], Word] = {}
    cost: Annotated[float, Field(ge=0, le=10, multiple_of=0.5)] | None


@dataclass
class Sizes:
    few: Annotated[set[Level], Field(max_length=2)]
    pair: tuple[Level, Word]
    code: Annotated[str, Field(min_length=2, max_length=3, pattern="^[a-z]*$")]


HINTS: list[Any] = [
    Twig,
    Cat | Dog,
    Visit,
    Sizes,
    Level,
    list[bool],
    dict[str, bool],
    list[Word] | None,
    Annotated[int, Field(gt=3, lt=9)],
    Annotated[int, Field(multiple_of=7, ge=0, le=700)],
    Annotated[Decimal, Field(ge=0, le=9)],
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    UUID4,
    IPvAnyAddress,
    Literal[1, "a", True, None],
]


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_what_masks_allow_is_what_pydantic_reads(hint: Any, grammars: GrammarCompiler) -> None:
    made = type_of(hint)
    assert made is not None
    rng = random.Random(5)
    whole = 0
    for _ in range(15):
        grammar = grammars.start(made)
        tokens = walk(grammar, rng, 300)
        if grammar.can_end:
            value_of(made, grammars._tokenizer.decode(tokens))  # raises if it is none
            whole += 1
    assert whole > 5


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (Annotated[int, Field(ge=5, le=3)], "minimum (5) is greater than"),
        (Annotated[str, Field(json_schema_extra={"not": {}})], 'Unimplemented keys: ["not"]'),
    ],
    ids=str,
)
def test_what_the_engine_cannot_express_is_said(
    hint: Any, said: str, grammars: GrammarCompiler
) -> None:
    made = type_of(hint)
    assert made is not None
    with pytest.raises(GrammarError) as caught:
        grammars.start(made)
    assert said in str(caught.value)


# -- choices

LETTERS = [chr(code) for code in range(0x20, 0x7F)]
ODD = [*LETTERS, *"\n\t\r\0\x01\x7f\x85\u2028\u200d\ufeff\xa0éß漢\U0001f600"]


def test_a_choice_is_one_of_its_options(grammars: GrammarCompiler) -> None:
    rng = random.Random(3)
    for _ in range(40):
        count = rng.randint(1, 8)
        options = list({"".join(rng.choices(ODD, k=rng.randint(1, 6))) for _ in range(count)})
        made = choice_type(options)
        assert all(grammars.start(made).matches(option) for option in options)
        assert not any(grammars.start(made).matches(f"{option}\x02") for option in options)
        grammar = grammars.start(made)
        tokens = walk(grammar, rng, 100)
        assert grammar.can_end
        assert b"".join(map(grammars._tokenizer.token_bytes, tokens)).decode() in options


def test_an_option_may_begin_another(grammars: GrammarCompiler) -> None:
    grammar = grammars.start(choice_type(["a", "ab"]))
    assert [grammar.matches(text) for text in ("a", "ab", "abb", "b", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_thousands_of_options(grammars: GrammarCompiler) -> None:
    options = [f"{i:x}" for i in range(7_000)]
    made = Type("choice", choice_type(options).source)
    grammar = grammars.start(made)
    tokens = walk(grammar, random.Random(1), 20)
    assert grammar.can_end
    assert grammars._tokenizer.decode(tokens) in options

"""Instances of classes, and choices, as values of a run: in the body, in its result, in company."""

import asyncio
import datetime
import enum
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

import ramet
from ramet.errors import LanguageError
from ramet.nodes import Gen
from ramet.runtime import AsyncEngine, Engine
from ramet.runtime.cli.terminal import plain
from ramet.runtime.errors import GenerationError, InvalidValue
from ramet.runtime.events import TextDelta, ValueBound
from ramet.runtime.steps.typed import value
from ramet.types import json_type
from tests.runtime.conftest import ToyEngine, all_back

Letter = Annotated[str, Field(pattern="^[a-z]$")]
Digit = Annotated[int, Field(ge=0, le=9)]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Card(BaseModel):
    name: Letter
    text: Letter
    place: Letter
    age: Digit = 3

    @property
    def older(self) -> int:
        return self.age + 1


@dataclass
class Point:
    x: Digit
    y: Digit


class Choosy(BaseModel):
    age: Digit

    @field_validator("age")
    @classmethod
    def refused(cls, age: int) -> int:
        raise ValueError("nobody is so old")


class Broken(BaseModel):
    age: Digit

    @field_validator("age")
    @classmethod
    def fails(cls, age: int) -> int:
        return age // 0


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Iterator[Engine]:
    made = toy_engine()
    yield made
    assert all_back(made.core)
    made.audit()


def gen(name: str = "card", hint: Any = Card, **fields: Any) -> Any:
    return ramet.gen(name, type=hint, max_tokens=200, **fields)


# -- one value


def test_the_body_and_the_result_have_an_instance(engine: Engine) -> None:
    seen: list[Any] = []

    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Who? " + gen()
        card = s["card"]
        seen.extend([card.look(), card.name, card.older, card == card.look(), f"{card}"])
        s += "\nAgain: " + card + f" {card} "
        return {"card": card, "name": card.name, "text": "It is " + card}

    done = engine.run(p)
    card, name, older, same, text = seen
    assert type(card) is Card
    assert (card.name, card.age + 1, True) == (name, older, same)
    assert type(done.value["card"]) is Card
    assert done["card"] == card == done.value["card"]
    assert done.value["name"] == name
    assert done.info("card").text == text
    assert done.value["text"] == f"It is {text}"
    assert done.text == f"Who? {text}\nAgain: {text} {text} "
    assert Card.model_validate_json(text) == card


def test_fields_come_before_what_is_known_of_the_value(engine: Engine) -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Who? " + gen(logprobs=0)
        card = s["card"]
        assert card.text == card.look().text != s.info("card").text
        assert card.place == card.look().place  # a name that the language might use itself
        assert 0 < card.prob.look() == s.info("card").prob < 1
        assert card.finish_reason == "grammar"
        with pytest.raises(AttributeError, match="nmae"):
            _ = card.nmae
        return card.finish_reason

    done = engine.run(p)
    assert done.value == "grammar"


def test_a_value_that_is_no_instance_keeps_its_attributes(engine: Engine) -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Who? " + gen("dict", dict[Literal["text"], Digit])
        assert s["dict"].text == s.info("dict").text
        return [s["dict"].text, s["dict"]]

    text, value = engine.run(p).value
    assert isinstance(text, str)
    assert isinstance(value, dict)


def test_nobody_looks_in_a_trace() -> None:
    @ramet.program
    def p(s: ramet.State, field: str) -> Any:
        s += "Who? " + gen()
        return s.info("card") if field == "info" else getattr(s["card"], field)

    assert p.trace("prob").result is not None
    for field in ("name", "text", "place", "info"):
        with pytest.raises(ramet.TraceError, match="the value of 'card' is needed"):
            p.trace(field)


def test_members_of_an_enum(engine: Engine) -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Mood: " + ramet.gen("mood", type=Mood)
        mood = s["mood"]
        return [mood, mood.value, mood == Mood.GOOD, mood.look() is Mood.GOOD, f"{mood}"]

    mood, value, equal, same, text = engine.run(p).value
    assert isinstance(mood, Mood)
    assert mood.value == value == text
    assert equal is same is (mood is Mood.GOOD)


def test_a_choice_is_a_text(engine: Engine) -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Say " + ramet.gen("x", choices=["yes", "no"])
        s += "Say " + ramet.gen("y", type=Literal["yes", "no"])
        return [s["x"] + s["y"], s["x"], s["x"].upper()]

    both, x, upper = engine.run(p).value
    assert x in ("yes", "no")
    assert both[: len(x)] == x
    assert upper == x.upper()


# -- many values


def test_samples_and_branches_and_what_is_gathered(engine: Engine) -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Where? " + gen("points", Point, n=3, temperature=1.0)
        best = max(s["points"], key=lambda point: point.x)
        branches = s.branch(gen("mood", Mood, n=3, temperature=1.0))
        for branch in branches:
            branch += f" {branch['mood']} " + gen("at", Point, temperature=1.0)
        moods = branches["mood"]
        kept = [each for each in branches["at"] if each.x >= 0]
        with pytest.raises(AttributeError, match=r"write \[x.name for x in"):
            _ = moods.name
        return {
            "best": best,
            "points": s["points"],
            "moods": moods,
            "often": ramet.majority(moods),
            "kept": kept,
            "texts": moods.texts and branches["at"].text,
        }

    done = engine.run(p)
    value = done.value
    assert value["best"] == max(value["points"], key=lambda point: point.x)
    assert all(type(point) is Point for point in (*value["points"], *value["kept"]))
    assert value["often"] in value["moods"]
    assert len(value["kept"]) == 3
    assert [type(branch.variables["at"]) for branch in done.root.branches] == [Point] * 3
    again = ramet.from_json(ramet.to_json(done.graph))
    assert again == done.graph


def test_a_graph_from_json_gives_what_json_has(engine: Engine) -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Where? " + gen("at", Point)
        return [s["at"], Point(1, 2), Mood.BAD, datetime.date(2024, 2, 29)]

    graph = p.trace()
    ran = engine.run(graph)
    assert ran.value == [ran["at"], Point(1, 2), Mood.BAD, datetime.date(2024, 2, 29)]
    assert type(ran["at"]) is Point
    plain = engine.run(ramet.from_json(ramet.to_json(graph)))
    at = ran["at"]
    assert isinstance(at, Point)
    assert plain.value == [{"x": at.x, "y": at.y}, {"x": 1, "y": 2}, "bad", "2024-02-29"]


def test_what_a_program_cannot_return() -> None:
    @ramet.program
    def p(s: ramet.State, what: Any) -> Any:
        s += "Where? " + gen("at", Point)
        return what(s)

    for wrong in (
        lambda s: object(),
        lambda s: Point(s["at"], 1),
        lambda s: {1, 2},
        lambda s: iter([1]),
        lambda s: s,
        lambda s: float,
    ):
        with pytest.raises(LanguageError, match="a program cannot return"):
            p.trace(wrong)


def test_a_batch_and_equal_work_of_another_class(engine: Engine) -> None:
    class Place(BaseModel):
        x: Digit
        y: Digit

    @ramet.program
    def p(s: ramet.State, hint: Any) -> Any:
        s += "Where? " + gen("at", hint)
        return s["at"]

    schema = ramet.gen("x", type=Point).type
    assert schema == ramet.gen("x", type=Place).type
    raw = ramet.Type("json", schema.source if schema is not None else "")
    batch = engine.run_batch(p, [{"hint": h} for h in (Point, Place, raw, Point, Choosy)])
    one, other, plain, again = (getattr(done, "value", None) for done in batch[:4])
    assert isinstance(one, Point)
    assert other == Place(x=one.x, y=one.y)
    assert plain == {"x": one.x, "y": one.y}
    assert one == again
    assert one is not again
    assert isinstance(batch[4], InvalidValue)


def test_streams_and_async(engine: Engine, toy_engine: ToyEngine) -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Where? " + gen("at", Point)
        return s["at"]

    stream = engine.stream(p)
    events = list(stream)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    (bound,) = [event for event in events if isinstance(event, ValueBound)]
    assert type(bound.value) is Point
    assert stream.result().value == bound.value
    assert text.startswith("{")

    async def run() -> Any:
        async with AsyncEngine.of(toy_engine()) as other:
            return (await other.run(p)).value

    assert asyncio.run(run()) == bound.value


def test_a_program_in_text_reads_an_instance_as_json(engine: Engine) -> None:
    inner = ramet.loads("program inner(at):\n    return [at.x + 1, at, '{at}']\n")

    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Where? " + gen("at", Point)
        return [s["at"], inner.call(s, at=s["at"])]

    point, (more, at, text) = engine.run(p).value
    assert (more, at) == (point.x + 1, point)
    assert text == engine.run(p).info("at").text


# -- what goes wrong


@pytest.mark.parametrize(
    ("hint", "said"),
    [(Choosy, "age: Value error, nobody is so old"), (Broken, "ZeroDivisionError")],
)
def test_a_text_that_its_class_refuses(engine: Engine, hint: Any, said: str) -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Who? " + gen("who", hint)

    with pytest.raises(InvalidValue) as caught:
        engine.run(p)
    error = caught.value
    assert isinstance(error, GenerationError)
    assert error.name == "who"
    assert error.text.startswith('{"age":')
    assert said in error.reason
    assert str(error).startswith('gen who: \'{"age":')
    assert "https" not in str(error)
    assert error.partial.text.startswith("Who? ")


def test_a_text_that_is_cut_is_no_value(engine: Engine) -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Who? " + ramet.gen("who", type=Card, max_tokens=3)

    with pytest.raises(GenerationError, match=r"max_tokens=3 cut .* before it was a whole"):
        engine.run(p)


def test_random_choices_with_random_logits(engine: Engine) -> None:
    rng = random.Random(4)
    for i in range(20):
        options = list({"".join(rng.choices('ab"\\\n é', k=3)) for _ in range(rng.randint(1, 5))})
        (done,) = engine.generate(f"{i}: ", choices=options, temperature=rng.choice([0.0, 2.0]))
        assert not isinstance(done, Exception)
        assert done["text"] in options


def test_the_command_line_shows_what_json_makes_of_an_instance() -> None:
    value = {"card": Card(name="a", text="b", place="c"), "mood": Mood.BAD, "at": [Point(1, 2)]}
    card = {"name": "a", "text": "b", "place": "c", "age": 3}
    assert plain(value) == {"card": card, "mood": "bad", "at": [{"x": 1, "y": 2}]}
    assert plain(datetime.date(2024, 2, 29)) == "2024-02-29"
    assert plain(len).startswith("<built-in function len")


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize(("count", "text"), [(1, ""), (2, "é"), (5, "éé")])
def test_half_a_character_of_a_cut_text_is_not_shown(
    engine: Engine, count: int, text: str, beams: int
) -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "Who? " + ramet.gen("who", regex="é{3}", max_tokens=count, beams=beams)

    with pytest.raises(GenerationError, match=f"max_tokens={count} cut the text '{text}' before"):
        engine.run(p)


@pytest.mark.parametrize("text", ["[1e400]", "1" * 5000])
def test_a_number_that_python_cannot_hold_is_no_value(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        value(Gen(0, "x", type=json_type({})), text)
    assert "sys." not in caught.value.reason
    assert caught.value.text == text

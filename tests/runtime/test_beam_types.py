"""What a type means for a beam search: for its values and branches, and for texts that are cut."""

import re
from typing import Any

import pytest

import ramet
from ramet.runtime import Engine
from ramet.runtime.errors import ConstraintError, GenerationError
from ramet.runtime.grammar import Grammar
from tests.runtime.beam_oracle import encoded
from tests.runtime.conftest import ToyEngine, all_back
from tests.runtime.running import run

pytestmark = pytest.mark.usefixtures("one_thread", "no_ties")


DIGIT = {"regex": "[0-9]", "beams": 4}


def asked(engine: Engine, text: str = "How many? ", **fields: Any) -> tuple[object, Any]:
    """The value of a search, and what is known of it."""

    @ramet.program
    def one(s: ramet.State) -> object:
        s += text + ramet.gen("x", **fields)
        return s["x"]

    done = run(engine, one)
    return done["x"], done.info("x")


def test_a_value_is_of_its_type(toy_engine: ToyEngine) -> None:
    engine = toy_engine(block_size=4)
    number, info = asked(engine, type=int, beams=4)
    assert type(number) is int
    assert number == int(info.text)
    flag, _ = asked(engine, type=bool, beams=3)
    assert type(flag) is bool
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    card, info = asked(engine, json_schema=schema, beams=3, max_tokens=60)
    assert card in ({"a": True}, {"a": False})
    assert info.finish_reason == "grammar"


def test_so_are_the_values_of_a_list(toy_engine: ToyEngine) -> None:
    numbers, info = asked(toy_engine(), type=int, beams=6, n=4, max_tokens=5)
    assert isinstance(numbers, list)
    assert numbers == [int(text) for text in info.text]
    assert len(set(info.text)) == 4
    assert list(info.score) == sorted(info.score, reverse=True)


def test_branches_begin_with_their_typed_hypothesis(toy_engine: ToyEngine) -> None:
    engine = toy_engine(block_size=4)

    @ramet.program
    def votes(s: ramet.State) -> object:
        s += "Vote: "
        branches = s.branch(ramet.gen("vote", type=int, beams=5, max_tokens=6))
        for branch in branches:
            branch += " because " + ramet.gen("why", regex="[a-z ]{3}", beams=2)
        return list(branches["vote"]), list(branches["why"])

    done = run(engine, votes)
    numbers, whys = done.value
    assert [type(each) for each in numbers] == [int] * 5
    assert len(set(numbers)) == 5
    for branch, why in zip(done.root.branches, whys, strict=True):
        assert re.fullmatch("[a-z ]{3}", why)
        assert branch.text.endswith(f"{branch.infos['vote'].text} because {why}")  # type: ignore[union-attr]


def test_each_finish_reason(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    assert asked(engine, **DIGIT)[1].finish_reason == "grammar"
    assert asked(engine, regex="[a-z]+", beams=4)[1].finish_reason == "eos"
    full = {"regex": "[a-z]+", "ignore_eos": True, "max_tokens": 3}
    assert asked(engine, beams=4, **full)[1].finish_reason == "length"
    cut = {"regex": "[a-c]{2}(;[a-c])*", "ignore_eos": True}
    assert asked(engine, beams=4, stop=";", **cut)[1].finish_reason == "stop"
    (semicolon,) = encoded(engine, ";")
    assert asked(engine, beams=4, stop_tokens=[semicolon], **cut)[1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"regex": "[a-z]{9}", "max_tokens": 4}, "max_tokens=4 cut .* a whole regex; give it more"),
        ({"regex": "[a-z]{3}[.][a-z]", "stop": "."}, "the stop '.' cut"),
        ({"regex": "[a-z]{3}[.][a-z]", "stop_tokens": [13]}, "a stop token cut"),
    ],
    ids=str,
)
def test_a_text_that_is_cut_before_it_is_whole_is_an_error(
    toy_engine: ToyEngine, fields: dict[str, Any], why: str
) -> None:
    engine = toy_engine()
    assert encoded(engine, ".") == [13]
    with pytest.raises(GenerationError, match=why):
        asked(engine, beams=4, **fields)
    assert all_back(engine.core)


def test_the_end_of_the_context_cuts_too(toy_engine: ToyEngine) -> None:
    with pytest.raises(GenerationError, match="the end of the model's context"):
        asked(toy_engine(context=14), regex="[a-z]{9}", beams=2)


def test_what_is_cut_is_no_hypothesis_beside_one_that_is_whole(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    _, info = asked(engine, regex="(ab){1,9}c?", beams=8, n=8, max_tokens=4, ignore_eos=True)
    assert info.samples
    assert all(re.fullmatch("(ab){1,9}c?", text) for text in info.text)
    _, info = asked(engine, regex="ab(c[a-z]{9})?", beams=4, n=4, max_tokens=3)
    assert info.text == ["ab"]


def test_a_stop_may_cut_where_the_rest_is_whole(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    value, info = asked(engine, regex="[a-c]{2}(;[a-c])*", beams=4, stop=";", ignore_eos=True)
    assert re.fullmatch("[a-c]{2}", str(value))
    assert info.stop == ";"
    assert len(info.tokens) == 3


def test_a_dead_end_loses_to_others_and_is_an_error_alone(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = {"a"}
    accept = Grammar.accept

    def stuck(self: Grammar, token: int) -> None:
        accept(self, token)
        if engine.tokenizer.decode([token]) in dead:
            raise ConstraintError("regex", 1, "no token leads on to a whole text")

    engine = toy_engine()
    monkeypatch.setattr(Grammar, "accept", stuck)
    _, info = asked(engine, regex="[ab]c", beams=2, n=2)
    assert info.text == ["bc"]
    dead.add("b")
    with pytest.raises(ConstraintError, match="leads on"):
        asked(engine, regex="[ab]c", beams=2)
    assert all_back(engine.core)


CONFIGS: list[dict[str, Any]] = [
    {"block_size": 1},
    {"block_size": 4, "num_blocks": 17},
    {"block_size": 4, "num_blocks": 17, "max_sequences": 1},
    {"block_size": 4, "prefill_chunk": 3, "step_tokens": 5},
    {"block_size": 32, "sharing": False},
]


@ramet.program
def typed_company(s: ramet.State, text: str) -> object:
    """Searches with and without types, and an ordinary text, in one batch."""
    s += text
    branches = s.fork(4)
    branches[0] += ramet.gen("x", regex="[a-m ]{4,9}", beams=4, max_tokens=9)
    branches[1] += "1" + ramet.gen("x", type=int, beams=3, max_tokens=9, min_tokens=3)
    branches[2] += "2" + ramet.gen("x", beams=3, max_tokens=6, stop=["a", "bc"])
    branches[3] += "3" + ramet.gen("x", regex="[a-z]+", max_tokens=5, ignore_eos=True)
    return list(branches["x"])


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_values_do_not_depend_on_the_settings(
    toy_engine: ToyEngine, config: dict[str, int]
) -> None:
    engine, plain = toy_engine(**{"num_blocks": 500} | config), toy_engine(num_blocks=500)
    for text in ("First: ", "Then: "):  # when all types are compiled
        expected = run(plain, typed_company, text=text).value
        assert run(engine, typed_company, text=text).value == expected
    if config.get("num_blocks") == 17 and "max_sequences" not in config:
        assert engine.stats().preemptions > 0

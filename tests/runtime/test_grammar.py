"""Typed `gen`: what is generated is of its type, whatever the settings and the company."""

import asyncio
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest

import ramet
from ramet.params import SamplingParams
from ramet.runtime import AsyncEngine, Engine, Finished
from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import ConstraintError, GenerationError, GrammarError, SamplingError
from ramet.runtime.events import TextDelta
from ramet.runtime.sequence import Generation
from ramet.runtime.tokenizer import Piece, Tokenizer
from ramet.types import Type, json_type
from tests.runtime.conftest import ToyCore, ToyEngine, ToyModel, all_back, drive
from tests.runtime.grammar.walks import random_regex, random_schema

CARD = {
    "type": "object",
    "properties": {"tool": {"enum": ["add", "finish"]}, "x": {"type": "integer", "maximum": 99}},
    "required": ["tool", "x"],
    "additionalProperties": False,
}


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Iterator[Engine]:
    made = toy_engine()
    yield made
    assert all_back(made.core)


def generated(engine: Engine, prompt: str = "Well: ", **fields: Any) -> Any:
    (done,) = engine.generate(prompt, **fields)
    if isinstance(done, Exception):
        raise done
    return done


# -- values


def test_every_kind_arrives_parsed(engine: Engine) -> None:
    assert type(generated(engine, type=int)["text"]) is int
    assert type(generated(engine, type=float)["text"]) is float
    assert type(generated(engine, type=bool)["text"]) is bool
    assert re.fullmatch("[A-Z][a-z]{3}", generated(engine, regex="[A-Z][a-z]{3}")["text"])
    assert set(generated(engine, json_schema=CARD)["text"]) == {"tool", "x"}
    assert generated(engine, grammar='start: "x" | "(" start ")"\n')["text"].count("x") == 1


@pytest.mark.parametrize("params", [{}, {"temperature": 1.5}, {"ignore_eos": True}])
def test_random_patterns_with_random_logits(engine: Engine, params: dict[str, Any]) -> None:
    rng = random.Random(11)
    whole = 0
    for i in range(60):
        pattern = random_regex(rng)
        (done,) = engine.generate(f"{i}: ", regex=pattern, max_tokens=40, **params)
        if isinstance(done, Finished):
            assert re.fullmatch(pattern, str(done["text"])), pattern
            whole += 1
        else:
            assert "cut" in str(done)
    assert whole > 45


@pytest.mark.parametrize("params", [{}, {"temperature": 1.5}])
def test_random_schemas_with_random_logits(engine: Engine, params: dict[str, Any]) -> None:
    rng = random.Random(12)
    whole = 0
    for i in range(60):
        schema = random_schema(rng)
        (done,) = engine.generate(f"{i}: ", json_schema=schema, max_tokens=90, **params)
        if isinstance(done, Finished):
            jsonschema.validate(done["text"], schema)
            whole += 1
        else:
            assert "cut" in str(done)
    assert whole > 50


def test_samples_have_grammars_of_their_own(engine: Engine) -> None:
    done = generated(engine, json_schema=CARD, n=8, temperature=3.0, seed=1)
    assert len({json.dumps(value) for value in done["text"]}) > 2
    for value in done["text"]:
        jsonschema.validate(value, CARD)


def test_branches_begin_with_their_typed_value(engine: Engine) -> None:
    @ramet.program
    def votes(s: ramet.State) -> dict[str, object]:
        s += "Vote: "
        branches = s.branch(ramet.gen("vote", type=int, n=5, temperature=2.0, min_tokens=2))
        for branch in branches:
            branch += " because " + ramet.gen("why", regex="[a-z ]{3}")
        return {"votes": list(branches["vote"]), "whys": list(branches["why"])}

    value: Any = engine.run(votes).value
    assert [type(vote) for vote in value["votes"]] == [int] * 5
    assert len(set(value["votes"])) > 1
    assert all(re.fullmatch("[a-z ]{3}", why) for why in value["whys"])


def test_the_program_goes_on_after_a_typed_value(engine: Engine) -> None:
    @ramet.program
    def two(s: ramet.State) -> None:
        s += "A card: " + ramet.gen("card", json_schema=CARD) + "\nAnd: "
        s += ramet.gen("word", regex="(yes|no)!")

    done = engine.run(two)
    spelled = done.info("card").text
    assert json.loads(str(spelled)) == done["card"]
    assert done.text == f"A card: {spelled}\nAnd: {done['word']}"


def test_the_deltas_are_the_text(engine: Engine) -> None:
    @ramet.program
    def card(s: ramet.State) -> None:
        s += "A card: " + ramet.gen("card", json_schema=CARD)

    stream = engine.stream(card)
    deltas = [event.text for event in stream if isinstance(event, TextDelta)]
    assert json.loads("".join(deltas)) == stream.result()["card"]


def test_on_its_own_thread(engine: Engine) -> None:
    @ramet.program
    def age(s: ramet.State, i: int) -> None:
        s += f"{i}: " + ramet.gen("age", type=int)

    async def main() -> list[Finished]:
        async with AsyncEngine.of(engine) as served:
            return await asyncio.gather(*(served.run(age, i) for i in range(4)))

    assert [type(done["age"]) for done in asyncio.run(asyncio.wait_for(main(), 20))] == [int] * 4


# -- how a text ends


def test_a_text_that_can_only_end_takes_no_token_more(engine: Engine) -> None:
    steps = engine.stats().steps
    info = generated(engine, regex="[ac]bc").info("text")
    assert (info.text[1:], info.finish_reason, len(info.tokens)) == ("bc", "grammar", 3)
    assert engine.stats().steps - steps == 1


@pytest.mark.parametrize(
    ("params", "length", "reason"),
    [({}, 2, "eos"), ({"min_tokens": 4}, 4, "eos"), ({"ignore_eos": True}, 6, "grammar")],
)
def test_ends_may_be_ruled_out(
    engine: Engine, params: dict[str, Any], length: int, reason: str
) -> None:
    """The toy model would always rather leave."""
    info = generated(engine, regex="a{2,6}", **params).info("text")
    assert (info.text, info.finish_reason) == ("a" * length, reason)


def test_least_tokens_are_no_dead_end(engine: Engine) -> None:
    info = generated(engine, regex="ab", min_tokens=50, max_tokens=50).info("text")
    assert (info.text, info.finish_reason) == ("ab", "grammar")


def test_at_the_limit_a_whole_text_is_whole(engine: Engine) -> None:
    info = generated(engine, regex="a{2,6}", ignore_eos=True, max_tokens=3).info("text")
    assert (info.text, info.finish_reason) == ("aaa", "length")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"regex": "[a-z]{5}", "max_tokens": 3}, "max_tokens=3 cut the text"),
        ({"json_schema": CARD, "max_tokens": 5}, "before it was a whole json; give it more"),
        ({"grammar": 'start: "abcdef"\n', "max_tokens": 5}, "a whole grammar; give it more"),
        ({"type": bool, "max_tokens": 2}, "a whole bool"),
        ({"regex": "abc;d", "stop": ";"}, "the stop ';' cut the text 'abc'"),
        ({"regex": "abc;d", "stop": ";"}, "leave that stop out"),
        ({"regex": "(ab)+", "max_tokens": 9, "ignore_eos": True}, "max_tokens=9 cut the text"),
    ],
)
def test_a_cut_text_is_an_error(engine: Engine, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(GenerationError, match="gen text: ") as caught:
        generated(engine, **fields)
    assert why in str(caught.value)


def test_the_end_of_the_context_cuts_too(toy_engine: ToyEngine) -> None:
    engine = toy_engine(context=12)
    with pytest.raises(GenerationError, match=r"the end of the model's context cut .* shorten"):
        generated(engine, "12345678", regex="[a-z]{9}")


def test_a_stop_token_cuts_too(engine: Engine) -> None:
    (b,) = engine.tokenizer.encode([Piece("b")], start=False)
    with pytest.raises(GenerationError, match="a stop token cut the text 'a'"):
        generated(engine, regex="ab", stop_tokens=[b])
    whole = generated(engine, regex="ab?", stop_tokens=[b], ignore_eos=True)
    assert (whole["text"], whole.info("text").finish_reason) == ("a", "stop")


def test_a_stop_may_cut_where_the_rest_is_whole(engine: Engine) -> None:
    info = generated(engine, regex="abc(;d)?", stop=";", ignore_eos=True).info("text")
    assert (info.text, info.finish_reason, info.stop) == ("abc", "stop", ";")


# -- what goes wrong


def test_a_wrong_type_fails_its_run_and_no_other(engine: Engine) -> None:
    @ramet.program
    def both(s: ramet.State, wrong: bool) -> None:
        s += "Well: "
        s += ramet.gen("x", regex="[" if wrong else "[a-z]{3}")

    items = [{"wrong": False}, {"wrong": True}, {"wrong": False}]
    first, second, third = engine.run_batch(both, items)
    assert isinstance(first, Finished)
    assert isinstance(third, Finished)
    assert isinstance(second, GrammarError)
    assert "in the program at" in second.__notes__[0]


def test_one_too_complex_fails_alone(engine: Engine) -> None:
    @ramet.program
    def both(s: ramet.State, hostile: bool) -> None:
        s += "Well: "
        s += ramet.gen(
            "x", regex=r"(\w{1,200}){1,200}" if hostile else "[a-z]{30}", ignore_eos=True
        )

    hostile, other = engine.run_batch(both, [{"hostile": True}, {"hostile": False}])
    assert isinstance(hostile, ConstraintError)
    assert isinstance(other, Finished)
    assert re.fullmatch("[a-z]{30}", str(other["x"]))


def test_what_rules_out_every_token_is_a_sampling_error(engine: Engine) -> None:
    with pytest.raises(SamplingError, match="ruled out"):
        generated(engine, regex="[a-c]", allowed_tokens=[0, 1])


def test_without_types_nothing_of_it_is_built(engine: Engine) -> None:
    generated(engine, max_tokens=4)
    assert "_vocabulary" not in vars(engine.core.grammars)


# -- the oracle


@dataclass(frozen=True)
class Setting:
    block_size: int = 16
    prefill_chunk: int | None = None
    sharing: bool = True
    num_blocks: int = 512
    together: bool = True


ALONE = Setting(sharing=False, together=False)
SETTINGS = [
    Setting(),
    Setting(block_size=1, prefill_chunk=16),
    Setting(block_size=8, sharing=False),
    Setting(block_size=8, num_blocks=16),
    Setting(block_size=4, num_blocks=24, sharing=False, prefill_chunk=16),
    Setting(block_size=32, together=False),
]
TYPES: Sequence[Type | None] = [
    Type("regex", "[a-z ]{20,40}"),
    json_type(CARD),
    None,
    json_type({"type": "array", "items": {"type": "boolean"}, "minItems": 4, "maxItems": 9}),
    Type("int"),
    Type("grammar", 'start: ("ab" | "ba"){9,12}\n'),
    None,
    Type("regex", "[a-z ]{20,40}"),
]


def drawn(tokenizer: Tokenizer, setting: Setting, temperature: float) -> tuple[list[Any], int]:
    """The tokens of each request, and how often one was preempted."""
    config = EngineConfig(
        block_size=setting.block_size,
        prefill_chunk=setting.prefill_chunk,
        sharing=setting.sharing,
        num_blocks=setting.num_blocks,
    )
    core = EngineCore(ToyModel(), tokenizer, config)
    tasks: list[Generation] = []
    for i, kind in enumerate(TYPES):
        prompt = tokenizer.encode([Piece("Something to share. " + "x" * i)], start=True)
        task = core.generate(
            core.open(prompt),
            SamplingParams(max_tokens=48, temperature=temperature, min_tokens=12),
            key=i,
            on_done=lambda task: core.close(task.sequence),
            grammar=None if kind is None else core.grammars.start(kind),
        )
        tasks.append(task)
        if not setting.together:
            drive(core)
    drive(core)
    assert all_back(core)
    assert [task.error for task in tasks] == [None] * len(tasks)
    return [(task.drawn, task.finish_reason) for task in tasks], core.stats().preemptions


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_typed_texts_do_not_depend_on_settings_or_company(
    byte_tokenizer: Tokenizer, temperature: float
) -> None:
    expected, _ = drawn(byte_tokenizer, ALONE, temperature)
    preempted = 0
    for setting in SETTINGS:
        found, preemptions = drawn(byte_tokenizer, setting, temperature)
        assert found == expected, setting
        preempted += preemptions
    assert preempted > 0


def test_an_aborted_or_failed_text_leaves_nothing(toy_core: ToyCore) -> None:
    core = toy_core()
    model = core.model
    assert isinstance(model, ToyModel)
    tasks = [
        core.generate(
            core.open(list(range(5))),
            SamplingParams(max_tokens=40),
            key=0,
            on_done=lambda task: core.close(task.sequence),
            grammar=core.grammars.start(Type("regex", "[a-z]{30}")),
        )
        for _ in range(2)
    ]
    core.step()
    core.abort(tasks[0])
    core.step()
    model.fail_at = {model.forwards}
    drive(core)
    assert all(task.error is not None for task in tasks)
    assert all_back(core)


# -- the embedded model


@ramet.program
def interview(s: ramet.State, year: int) -> None:
    s += f"Anna was born in {year}. In 2020 Anna's age was "
    s += ramet.gen("age", type=int) + " years.\nHer action as JSON: "
    s += ramet.gen("card", json_schema=CARD, max_tokens=40) + "\nThe capital of France is "
    s += ramet.gen("city", regex=r"[A-Z]\w+")


def test_on_the_embedded_model(smollm2: tuple[Any, Any]) -> None:
    model, folder = smollm2
    tokenizer = Tokenizer.load(folder, eos_ids=model.shape.eos)
    engine = Engine.of(model, tokenizer, EngineConfig(num_blocks=128))
    for done in engine.run_batch(interview, [{"year": 1990}, {"year": 2001}]):
        assert isinstance(done, Finished)
        age, card = done["age"], done["card"]
        assert type(age) is int
        assert len(str(age)) <= 4  # it ends where the model would rather leave
        jsonschema.validate(card, CARD)
        assert done["city"] == "Paris"

"""Forced tokens: the same tokens, text and errors as if each were drawn, in fewer steps."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ramet
from ramet.errors import LimitError
from ramet.limits import Limits
from ramet.params import SamplingParams
from ramet.runtime import Engine, Finished
from ramet.runtime.config import EngineConfig
from ramet.runtime.events import TextDelta
from ramet.runtime.grammar import Grammar, GrammarCompiler
from ramet.runtime.tokenizer import Tokenizer
from ramet.types import Type, json_type
from tests.runtime.conftest import ToyEngine, ToyModel, all_back, drive
from tests.runtime.grammar.walks import random_regex, random_schema
from tests.runtime.tokenizers import smollm2

CARD = {
    "type": "object",
    "properties": {
        "recommendation": {"enum": ["take it", "leave it"]},
        "certainty": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["recommendation", "certainty"],
    "additionalProperties": False,
}


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on every token is drawn."""
    return lambda: monkeypatch.setattr(Grammar, "forced", lambda self: None)


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Iterator[Engine]:
    made = toy_engine()
    yield made
    assert all_back(made.core)


def told(done: Finished | Exception) -> Any:
    """All that is known of it, but for what it cost."""
    if isinstance(done, Exception):
        return type(done), str(done)
    infos: Any = done.info("text")
    samples = getattr(infos, "samples", (infos,))
    each = [
        (i.text, i.tokens, i.finish_reason, i.stop, i.logprobs, i.usage.generated) for i in samples
    ]
    return done["text"], each


def random_request(rng: random.Random) -> dict[str, Any]:
    """What a `gen` may be asked for, with a type that often forces tokens."""
    fields: dict[str, Any] = {}
    match rng.randrange(4):
        case 0:
            fields["regex"] = random_regex(rng) + rng.choice(["", "abc", " and so on", "é→"])
        case 1:
            words = rng.sample(["alpha beta", "alphabet", "gamma ray", "grammar"], 2)
            fields["regex"] = f"({'|'.join(words)}): {random_regex(rng, 2)}"
        case _:
            fields["json_schema"] = random_schema(rng)
    fields["max_tokens"] = rng.choice([1, 3, 9, 30, 90])
    fields["temperature"] = rng.choice([0.0, 0.0, 0.7, 2.0])
    if rng.random() < 0.3:
        fields["stop"] = rng.choice(["a", '":', "bc", ["b", "}"], "é"])
    if rng.random() < 0.2:
        fields["stop_regex"] = rng.choice(["[bx]c?", '"[a-z]+"'])
    if rng.random() < 0.2:
        fields["stop_tokens"] = rng.sample(range(60, 90), 3)
    if rng.random() < 0.2:
        fields["min_tokens"] = rng.randint(1, fields["max_tokens"])
    if rng.random() < 0.2:
        fields["ignore_eos"] = True
    if rng.random() < 0.2:
        fields["logprobs"] = rng.choice([0, 2])
    if rng.random() < 0.1:
        fields["allowed_tokens"] = rng.sample(range(256), 200)
    if rng.random() < 0.2:
        fields |= {"repetition_penalty": 1.3, "presence_penalty": 0.5}
    if rng.random() < 0.2 and fields["temperature"]:
        fields["n"] = 3
    return fields


def compared(engine: Engine, one_by_one: Callable[[], None], seed: int, count: int) -> int:
    """Forced tokens of so many random requests, which come out the same without forcing any."""
    rng = random.Random(seed)
    requests = [random_request(rng) for _ in range(count)]

    def run() -> tuple[list[Any], int]:
        outcomes = [engine.generate(f"{i}: ", **fields)[0] for i, fields in enumerate(requests)]
        usages = [each.root.usage for each in outcomes if isinstance(each, Finished)]
        return list(map(told, outcomes)), sum(usage.forced for usage in usages)

    quick, forced = run()
    one_by_one()
    slow, none = run()
    assert none == 0
    for fields, one, other in zip(requests, quick, slow, strict=True):
        assert one == other, fields
    return forced


def test_nothing_changes_but_the_work(engine: Engine, one_by_one: Callable[[], None]) -> None:
    assert compared(engine, one_by_one, seed=1, count=90) > 120


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_nothing_changes_at_length(
    engine: Engine, one_by_one: Callable[[], None], seed: int
) -> None:
    assert compared(engine, one_by_one, seed=100 + seed, count=400) > 500


def test_they_are_run_together(engine: Engine) -> None:
    (done,) = engine.generate("A card: ", json_schema=CARD, max_tokens=80)
    assert isinstance(done, Finished)
    info: Any = done.info("text")
    assert info.usage.generated == len(info.tokens) > 40
    assert info.usage.forced > 35
    assert engine.stats().steps == info.usage.generated - info.usage.forced


def test_a_text_that_is_known_needs_no_model(engine: Engine) -> None:
    (done,) = engine.generate("Say: ", regex="hello there")
    assert isinstance(done, Finished)
    assert (done["text"], done.root.usage.forced) == ("hello there", 11)
    assert engine.stats().steps == 0


def test_what_follows_sees_them(engine: Engine, one_by_one: Callable[[], None]) -> None:
    @ramet.program
    def two(s: ramet.State) -> None:
        s += "A card: " + ramet.gen("card", json_schema=CARD, max_tokens=80) + "\nSo: "
        branches = s.branch(ramet.gen("word", regex="(yes|nope), sir", n=3, temperature=2.0))
        for branch in branches:
            branch += ramet.gen("why", max_tokens=6, ignore_eos=True)
        s += branches["why"].join(" ") + ramet.gen("end", max_tokens=6, ignore_eos=True)

    quick = engine.run(two)
    one_by_one()
    assert engine.run(two).text == quick.text


def test_the_deltas_are_the_text(engine: Engine) -> None:
    @ramet.program
    def card(s: ramet.State) -> None:
        s += "A card: " + ramet.gen("card", json_schema=CARD, max_tokens=80)

    stream = engine.stream(card)
    deltas = [event.text for event in stream if isinstance(event, TextDelta)]
    assert "".join(deltas) == stream.result().info("card").text


def test_with_log_probabilities_each_is_drawn(engine: Engine) -> None:
    (done,) = engine.generate("Say: ", regex="hello", logprobs=2)
    assert isinstance(done, Finished)
    info: Any = done.info("text")
    assert info.usage.forced == 0
    assert [draw.token for draw in info.logprobs] == list(info.tokens)
    assert all(draw.logprob is not None and draw.logprob < 0 for draw in info.logprobs)


@pytest.mark.parametrize("most", [1, 4, 10, 11, 12, 13, 29])
def test_limits_hold_to_the_token(byte_tokenizer: Tokenizer, most: int) -> None:
    config = EngineConfig(num_blocks=64, limits=Limits(tokens=most))
    engine = Engine.of(ToyModel(), byte_tokenizer, config)
    text: list[str] = []

    @ramet.program
    def two(s: ramet.State) -> None:
        s += "Say: " + ramet.gen("a", regex="hello there")
        s += ramet.gen("b", regex="(x|y), I said to nobody")

    stream = engine.stream(two)
    with pytest.raises(LimitError):
        text.extend(event.text for event in stream if isinstance(event, TextDelta))
    assert len("".join(text)) == most
    assert all_back(engine.core)


def test_a_callback_may_end_it_amid_them(byte_tokenizer: Tokenizer) -> None:
    engine = Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=64))
    core = engine.core

    def stop(text: str) -> None:
        core.close(sequence)

    sequence = core.open(byte_tokenizer.encode([], start=True) or [65])
    task = core.generate(
        sequence,
        SamplingParams(max_tokens=20),
        key=0,
        on_done=lambda task: None,
        on_text=stop,
        grammar=core.grammars.start(Type("regex", "hello there")),
    )
    drive(core)
    assert task.done
    assert task.usage.forced == 1
    assert all_back(core)


@pytest.mark.parametrize("settings", [{"prefill_chunk": 2}, {"block_size": 1}, {"num_blocks": 14}])
def test_they_are_chunked_and_preempted_like_a_prompt(
    toy_engine: ToyEngine, settings: dict[str, int]
) -> None:
    items = [{"prompt": "x" * i} for i in range(6)]

    @ramet.program
    def card(s: ramet.State, prompt: str) -> None:
        s += prompt + " A card: " + ramet.gen("card", json_schema=CARD, max_tokens=80)

    def texts(engine: Engine) -> list[str]:
        done = engine.run_batch(card, items)
        assert all_back(engine.core)
        return [each.text if isinstance(each, Finished) else str(each) for each in done]

    assert texts(toy_engine(**settings)) == texts(toy_engine(sharing=False))


def test_copies_amid_a_run_of_them() -> None:
    tokenizer = smollm2()
    grammars = GrammarCompiler(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)
    grammar = grammars.start(json_type(CARD))
    run: list[int] = []
    copies: list[Grammar] = []
    while (token := grammar.forced()) is not None:
        copies.append(grammar.copy())
        run.append(token)
        grammar.accept(token)
    assert tokenizer.decode(run) == '{"recommendation'
    for at, copy in enumerate(copies):
        for token in run[at:]:
            assert copy.forced() == token
            copy.accept(token)
        assert (copy.mask() == grammar.mask()).all()
    grammars.close()

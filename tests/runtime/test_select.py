"""Select: every option scored as the logits themselves say, and gone on from."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

import ramet
from ramet.runtime import Engine, EngineConfig
from ramet.runtime.errors import PromptError
from ramet.runtime.tokenizer import Piece, Tokenizer
from ramet.runtime.values import SelectInfo
from tests.runtime import conftest
from tests.runtime.conftest import ToyEngine, toy_logits, toy_words
from tests.runtime.legible import encoded, legible
from tests.runtime.running import gen, run
from tests.runtime.tokenizers import byte_level, smollm2


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Engine:
    return legible(toy_engine())


OPTIONS = [" yes", " no", " perhaps", " y"]


def brute_force(engine: Engine, context: str, option: str) -> list[float]:
    """Log-probabilities of the option's tokens after the context, from the logits themselves."""
    return conditional(encoded(engine, context), encoded(engine, context + option))


def conditional(before: list[int], whole: list[int]) -> list[float]:
    assert whole[: len(before)] == before, "no token lies across the boundary"
    return [
        float(toy_logits([(t, i) for i, t in enumerate(whole[:at])]).log_softmax(-1)[whole[at]])
        for at in range(len(before), len(whole))
    ]


def alone(tokens: list[int]) -> list[float]:
    return [0.0, *conditional(tokens[:1], tokens)]


def mean(row: list[float]) -> float:
    return sum(row) / len(row)


METHODS: dict[str, Callable[[list[float], list[float]], float]] = {
    "mean_logprob": lambda given, own: mean(given),
    "sum_logprob": lambda given, own: sum(given),
    "unconditional": lambda given, own: mean([a - b for a, b in zip(given, own, strict=True)]),
}


@pytest.mark.parametrize(
    "settings", [{}, {"block_size": 4, "prefill_chunk": 3}, {"step_tokens": 5}]
)
@pytest.mark.parametrize("by", [*METHODS, "greedy"])
@pytest.mark.parametrize("context", ["Is it?", "A", "a longer context, over more than a block"])
def test_select_against_brute_force(
    toy_engine: ToyEngine, by: Any, context: str, settings: dict[str, int]
) -> None:
    @ramet.program
    def choose(s: ramet.State) -> object:
        s += context
        s += ramet.select("x", OPTIONS, by=by)
        s += gen("after")
        return s["x"], s["after"]

    engine = toy_engine(**settings)
    finished = run(engine, choose)
    info = finished.info("x")
    assert isinstance(info, SelectInfo)

    given = {option: brute_force(engine, context, option) for option in OPTIONS}
    own = {option: alone(encoded(engine, option)) for option in OPTIONS}
    for option in OPTIONS:
        assert info.logprobs[option] == pytest.approx(given[option], abs=1e-4)
        assert list(info.tokens[option]) == encoded(engine, option)
    if by == "greedy":
        best = greedy(given)
    else:
        scores = {option: METHODS[by](given[option], own[option]) for option in OPTIONS}
        assert info.scores == pytest.approx(scores, abs=1e-4)
        best = max(OPTIONS, key=scores.__getitem__)
        total = sum(math.exp(score) for score in scores.values())
        assert info.probs[best] == pytest.approx(math.exp(scores[best]) / total, abs=1e-4)
    chosen, after = finished.value
    assert chosen == best
    assert after == toy_words(engine.tokenizer, context + best, 4)
    assert finished.text == context + best + after


def greedy(given: dict[str, list[float]]) -> str:
    left = list(given)
    for at in range(max(map(len, given.values()))):
        column = {o: given[o][at] if at < len(given[o]) else mean(given[o]) for o in left}
        left = [option for option in left if column[option] == max(column.values())]
    return left[0]


def test_select_draws_by_its_scores(engine: Engine) -> None:
    @ramet.program
    def draw(s: ramet.State, seed: int) -> object:
        s += "pick "
        s += ramet.select("x", ["a", "b", "c"], temperature=1.0, seed=seed)
        return s["x"], s["x"].probs

    drawn = [run(engine, draw, seed=seed).value for seed in range(100)]
    probs = drawn[0][1]
    for option, prob in probs.items():
        share = sum(value == option for value, _ in drawn) / 100
        assert share == pytest.approx(prob, abs=4 * math.sqrt(prob * (1 - prob) / 100) + 0.01)
    assert drawn == [run(engine, draw, seed=seed).value for seed in range(100)]


def test_options_that_begin_alike_and_one_that_is_anothers_beginning(engine: Engine) -> None:
    @ramet.program
    def choose(s: ramet.State) -> object:
        s += "Say "
        s += ramet.select("x", ["ab", "abc", "abd"], by="sum_logprob")
        return s["x"]

    info = run(engine, choose).info("x")
    assert isinstance(info, SelectInfo)
    assert info.logprobs["abc"][:2] == pytest.approx(info.logprobs["ab"])
    assert info.logprobs["abd"][:2] == pytest.approx(info.logprobs["ab"])
    assert info.text == "ab"


def test_one_option_is_certain(engine: Engine) -> None:
    @ramet.program
    def choose(s: ramet.State) -> object:
        s += "Say "
        s += ramet.select("x", ["only"])
        return s["x"], s["x"].prob

    assert run(engine, choose).value == ("only", 1.0)


def test_options_are_scored_in_one_step(toy_engine: ToyEngine) -> None:
    """Each distinct token once, and the last ones not at all."""

    @ramet.program
    def choose(s: ramet.State) -> object:
        s += "Of all words I say"
        s += ramet.select("x", [" apple", " apples", " ant", " bee"])
        return s["x"]

    engine = toy_engine()
    finished = run(engine, choose)
    assert engine.stats().steps == 1
    inner = {"", *(w[:n] for w in (" apple", " apples", " ant", " bee") for n in range(1, len(w)))}
    assert finished.usage.prompt_computed == len("Of all words I say") + len(inner) - 1


@pytest.mark.parametrize(
    "settings",
    [{}, {"step_tokens": 40, "max_sequences": 8}, {"num_blocks": 20}, {"step_tokens": 8}],
)
@pytest.mark.parametrize("by", [*METHODS, "greedy"])
def test_many_options_go_to_several_tries(
    toy_engine: ToyEngine, by: Any, settings: dict[str, int]
) -> None:
    options = [f" {n:03}" for n in range(0, 1000, 7)]
    options += [" a long one " + "x" * length for length in (1, 60, 130)]

    @ramet.program
    def choose(s: ramet.State) -> object:
        s += "A number:"
        s += ramet.select("x", options, by=by)
        return s["x"]

    engine = toy_engine(**settings)
    info = run(engine, choose).info("x")
    assert isinstance(info, SelectInfo)
    given = {option: brute_force(engine, "A number:", option) for option in options}
    for option in options:
        assert info.logprobs[option] == pytest.approx(given[option], abs=1e-4)
    if by == "greedy":
        assert info.text == greedy(given)
    else:
        own = {option: alone(encoded(engine, option)) for option in options}
        scores = {option: METHODS[by](given[option], own[option]) for option in options}
        assert info.text == max(options, key=scores.__getitem__)


def test_what_begins_alike_scores_alike_over_all_tries(toy_engine: ToyEngine) -> None:
    """To the last bit: the method `greedy` compares for equality. Here two forward passes of the
    same tokens never agree to the last bit."""
    engine = toy_engine(step_tokens=16, max_sequences=4)
    forward = engine.core.model.forward
    passes = itertools.count()

    def trembling(*args: Any) -> Any:
        return forward(*args) * (1 + 1e-6 * next(passes))

    engine.core.model.forward = trembling  # type: ignore[method-assign]
    options = [f" {a}{b}" for a in "abc" for b in "defghijk" * 3]
    options = list(dict.fromkeys(f"{option}{n}" for n, option in enumerate(options)))

    @ramet.program
    def choose(s: ramet.State) -> object:
        s += "Say"
        s += ramet.select("x", options, by="greedy")
        return s["x"]

    info = run(engine, choose).info("x")
    assert isinstance(info, SelectInfo)
    assert next(passes) > 2
    for depth in (1, 2):
        firsts = {option[:depth]: set[float]() for option in options}
        for option in options:
            firsts[option[:depth]].add(info.logprobs[option][depth - 1])
        assert all(len(values) == 1 for values in firsts.values())


def test_text_that_becomes_one_token_with_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    monkeypatch.setattr(conftest, "TOY_VOCAB", tokenizer.vocab_size)
    engine = Engine.of(conftest.ToyModel(), tokenizer, EngineConfig(num_blocks=64))

    @ramet.program
    def merged(s: ramet.State) -> object:
        s += "Th"
        s += ramet.select("x", ["e", "ing"])
        return s["x"]

    with pytest.raises(PromptError, match="needs more text before it: what there is becomes one"):
        engine.run(merged)


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {"merging": byte_level, "smollm2": smollm2}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(
    ("context", "options"),
    [
        ("The ", ["quick", "lazy"]),  # the space belongs to the options' first tokens
        ("The", [" quick", " lazy"]),
        ("The qui", ["ck brown", "et one", "ckest"]),
        ("Give me", [" the", " three", " tips"]),
        ("over the la", ["zy dog", "nd"]),
    ],
)
def test_options_are_tokenized_together_with_the_text_before_them(
    monkeypatch: pytest.MonkeyPatch, kind: str, context: str, options: list[str]
) -> None:
    """What is scored is each whole text's own tokens, from where the texts part."""
    tokenizer = TOKENIZERS[kind]()
    monkeypatch.setattr(conftest, "TOY_VOCAB", tokenizer.vocab_size)
    engine = Engine.of(conftest.ToyModel(), tokenizer, EngineConfig(num_blocks=64))

    @ramet.program
    def choose(s: ramet.State) -> object:
        s += "Fox. " + context
        s += ramet.select("x", options, by="sum_logprob")
        s += " end"
        s += gen("after", 2)
        return s["x"]

    prompts: list[list[int]] = []
    generate = engine.core.generate

    def watched(sequence: Any, *args: Any, **kwargs: Any) -> Any:
        prompts.append(list(sequence.tokens))
        return generate(sequence, *args, **kwargs)

    monkeypatch.setattr(engine.core, "generate", watched)
    finished = run(engine, choose)
    info = finished.info("x")
    assert isinstance(info, SelectInfo)

    ways = {option: encoded(engine, "Fox. " + context + option) for option in options}
    plain = encoded(engine, "Fox. " + context)
    rows = zip(plain, *(way[:-1] for way in ways.values()), strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda row: len(set(row)) == 1, rows))
    for option, way in ways.items():
        assert list(info.tokens[option]) == way[shared:]
        assert info.logprobs[option] == pytest.approx(conditional(way[:shared], way), abs=1e-3)
    best = max(options, key=lambda option: sum(info.logprobs[option]))
    assert finished.value == best
    # What follows goes on from the very tokens that were scored.
    assert prompts == [ways[best] + tokenizer.encode([Piece(" end")], start=False)]

"""The text of a generation: what is shown and when, where it ends, and what the state goes on from.

`TextStream` alone first, then on the engine core, where the text of the toy model is worked out
without any cache.
"""

import random
from collections.abc import Callable

import pytest

import ramet
from ramet.params import SamplingParams
from ramet.runtime import Engine, TextDelta
from ramet.runtime.core import EngineCore
from ramet.runtime.sequence import Generation, Task
from ramet.runtime.text import TextStream
from ramet.runtime.tokenizer import Piece, Tokenizer
from ramet.runtime.values import GenInfo
from tests.runtime.conftest import ToyCore, ToyEngine, drive, toy_logits, toy_text
from tests.runtime.tokenizers import byte_level, random_text, sentencepiece, smollm2

TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "merging": byte_level,
    "sentencepiece": lambda: sentencepiece("first"),
    "smollm2": smollm2,
}


def encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode([Piece(text)], start=False)


def stream(
    tokenizer: Tokenizer, tokens: list[int], context: list[int] | None = None, **sampling: object
) -> tuple[TextStream, list[str]]:
    """Push tokens until one of them stops it, then finish; the stream and all it released."""
    params = SamplingParams(**sampling)  # type: ignore[arg-type]
    text = TextStream(tokenizer, params, context or [])
    shown = []
    for token in tokens:
        shown.append(text.push(token))
        if text.stopped:
            break
    shown.append(text.finish())
    return text, shown


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_cut_leaves_tokens_and_text_that_join_to_the_value(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    rng = random.Random(4)
    cuts = 0
    for _ in range(300):
        whole = "x " + random_text(rng) + " end"
        tokens = encoded(tokenizer, whole)
        context = encoded(tokenizer, "Before:")
        known = tokenizer.decode(context + tokens)[len(tokenizer.decode(context)) :]
        at = rng.randrange(1, len(known))
        stop = known[at : at + rng.randrange(1, 5)]

        text, shown = stream(tokenizer, tokens, context, stop=stop)

        assert text.stopped_by == stop
        assert text.text == "".join(shown) == known[: known.find(stop)]
        kept = tokens[: text.kept_tokens]
        before = tokenizer.decode(context)
        assert tokenizer.decode(context + kept)[len(before) :] + text.leftover == text.text
        cuts += bool(text.leftover)
    assert cuts > 5, "some cuts must fall inside a token"


def test_no_half_of_the_stops_first_character_is_kept(byte_tokenizer: Tokenizer) -> None:
    tokens = encoded(byte_tokenizer, "aéb")
    text, _ = stream(byte_tokenizer, tokens, stop="é")
    assert (text.text, text.kept_tokens, text.leftover) == ("a", 1, "")


def test_a_stop_inside_a_token_leaves_its_beginning_as_text() -> None:
    tokens = encoded(byte_level(), "a the")
    assert len(tokens) == 2
    text, shown = stream(byte_level(), tokens, stop="he")
    assert (text.text, text.kept_tokens, text.leftover) == ("a t", 1, " t")
    assert "".join(shown) == "a t"


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_deltas_join_to_the_text_and_hold_back_only_what_may_be_a_stop(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    rng = random.Random(5)
    for _ in range(100):
        whole = "x " + random_text(rng)
        tokens = encoded(tokenizer, whole)
        context = encoded(tokenizer, "Before:")
        text, shown = stream(tokenizer, tokens, context, stop=["\x01\x02\x03", "zq!"])
        assert "".join(shown) == text.text == whole
        assert (text.kept_tokens, text.leftover, text.stopped_by) == (0, "", None)


def test_an_unfinished_character_at_the_end(byte_tokenizer: Tokenizer) -> None:
    tokens = encoded(byte_tokenizer, "aé")[:-1]
    text, shown = stream(byte_tokenizer, tokens)
    assert shown == ["a", "", "\ufffd"]
    assert text.text == "a\ufffd"


# -- on the engine core


def ignored(task: Task) -> None:
    """Nobody waits for it."""


def start(
    core: EngineCore, prompt: str, on_text: Callable[[str], None] | None = None, **sampling: object
) -> Generation:
    sampling.setdefault("ignore_eos", True)
    params = SamplingParams(**sampling)  # type: ignore[arg-type]
    sequence = core.open(core.tokenizer.encode([Piece(prompt)], start=True))
    return core.generate(sequence, params, key=0, on_done=ignored, on_text=on_text)


def restricted(tokenizer: Tokenizer, letters: str) -> list[int]:
    """The tokens of these letters alone: then the toy model writes legible text."""
    return sorted(set(encoded(tokenizer, letters)))


def written(prompt: list[int], allowed: list[int], count: int) -> list[int]:
    known = list(prompt)
    for _ in range(count):
        logits = toy_logits([(token, place) for place, token in enumerate(known)])
        known.append(max(allowed, key=lambda token: float(logits[token])))
    return known[len(prompt) :]


LETTERS = "ab é€𐍈\n"


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("at", [0, 1, 6, 17])
def test_a_stop_string_over_token_boundaries(toy_core: ToyCore, length: int, at: int) -> None:
    core = toy_core()
    allowed = restricted(core.tokenizer, LETTERS)
    prompt = encoded(core.tokenizer, "Q:")
    tokens = written(prompt, allowed, 60)
    known = core.tokenizer.decode(tokens)
    stop = known[at : at + length]
    end = known.find(stop)
    deltas: list[str] = []

    task = start(
        core, "Q:", deltas.append, max_tokens=60, allowed_tokens=allowed, stop=["never", stop]
    )
    drive(core)

    assert task.text.text == "".join(deltas) == known[:end]
    assert (task.finish_reason, task.text.stopped_by) == ("stop", stop)
    kept = task.sequence.tokens[2:]
    assert kept == tokens[: len(kept)]
    assert core.tokenizer.decode(kept) + task.text.leftover == known[:end]
    assert len(task.drawn) < 60


def test_a_stop_before_min_tokens_is_text(toy_core: ToyCore) -> None:
    core = toy_core()
    allowed = restricted(core.tokenizer, "ab")
    tokens = written(encoded(core.tokenizer, "Q:"), allowed, 30)
    known = core.tokenizer.decode(tokens)
    stop = known[2]

    task = start(core, "Q:", max_tokens=30, min_tokens=10, allowed_tokens=allowed, stop=stop)
    drive(core)

    # Complete with at least 10 tokens: the first place it may end is before token 10.
    assert task.text.text == known[: known.index(stop, 9)]


def test_a_length_cut_inside_a_character(toy_core: ToyCore) -> None:
    core = toy_core()
    allowed = restricted(core.tokenizer, "€")
    deltas: list[str] = []

    task = start(core, "Q:", deltas.append, max_tokens=7, allowed_tokens=allowed)
    drive(core)

    tokens = written(encoded(core.tokenizer, "Q:"), allowed, 7)
    assert task.drawn == tokens
    assert "".join(deltas) == task.text.text == core.tokenizer.decode(tokens)
    assert task.sequence.tokens[2:] == tokens, "the tokens stay, whatever their text"


def test_a_prompt_that_ends_inside_a_character(toy_core: ToyCore) -> None:
    """None of the prompt's text comes back in what is generated."""
    core = toy_core()
    prompt = encoded(core.tokenizer, "a€")[:-1]
    last = encoded(core.tokenizer, "€")[-1:]
    deltas: list[str] = []
    task = core.generate(
        core.open(prompt),
        SamplingParams(max_tokens=1, allowed_tokens=last, ignore_eos=True),
        key=0,
        on_done=ignored,
        on_text=deltas.append,
    )
    drive(core)
    assert task.text.text == "".join(deltas) == "€"


def test_a_stop_regex(toy_core: ToyCore) -> None:
    core = toy_core()
    allowed = restricted(core.tokenizer, "ab12")
    known = core.tokenizer.decode(written(encoded(core.tokenizer, "Q:"), allowed, 60))
    task = start(core, "Q:", max_tokens=60, allowed_tokens=allowed, stop_regex=r"[ab]\d\d")
    drive(core)

    assert task.finish_reason == "stop"
    assert known.startswith(task.text.text)
    found = known[len(task.text.text) :][:3]
    assert found[0] in "ab"
    assert found[1:].isdigit()


# -- in programs: the state goes on


@ramet.program
def twice(s: ramet.State, stop: str, allowed: list[int]) -> object:
    s += "Q:"
    s += ramet.gen("first", max_tokens=40, allowed_tokens=allowed, stop=stop, ignore_eos=True)
    s += "|then "
    s += ramet.gen("second", max_tokens=12, allowed_tokens=allowed, ignore_eos=True)
    return s["first"], s["second"]


def test_the_state_goes_on_from_the_kept_tokens_and_the_leftover(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    tokenizer = engine.tokenizer
    allowed = restricted(tokenizer, LETTERS)
    tokens = written(encoded(tokenizer, "Q:"), allowed, 40)
    known = tokenizer.decode(tokens)
    for at in range(12):
        stop = known[at : at + 2]
        end = known.find(stop)
        finished = engine.run(twice, stop=stop, allowed=allowed)
        engine.audit()
        first, second = finished.value
        assert first == known[:end]
        info = finished.info("first")
        assert isinstance(info, GenInfo)
        assert (info.finish_reason, info.stop) == ("stop", stop)
        # A byte tokenizer spells every leftover as the model did, whole characters at least.
        text = "Q:" + known[:end] + "|then "
        if "\ufffd" not in known[:end]:
            assert second == tokenizer.decode(written(encoded(tokenizer, text), allowed, 12))
        assert finished.text == text + second


def test_the_leftover_is_encoded_together_with_the_text_after_it(
    monkeypatch: pytest.MonkeyPatch, toy_engine: ToyEngine
) -> None:
    """With a tokenizer that merges: kept tokens stay, the rest is one run of text."""
    tokenizer = byte_level()
    engine = merging_engine(monkeypatch, tokenizer)
    the = encoded(tokenizer, " the")
    assert len(the) == 1, "a token of several characters"

    @ramet.program
    def cut(s: ramet.State) -> object:
        s += "Q:"
        s += ramet.gen("a", max_tokens=5, allowed_tokens=the, stop="e t", ignore_eos=True)
        s += "e end"
        s += ramet.gen("b", max_tokens=2, ignore_eos=True)
        return s["a"]

    seen: list[list[int]] = []
    generate = engine.core.generate

    def watched(sequence: object, *args: object, **kwargs: object) -> object:
        seen.append(list(sequence.tokens))  # type: ignore[attr-defined]
        return generate(sequence, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.core, "generate", watched)
    assert engine.run(cut).value == " th"
    prompt = tokenizer.encode([Piece("Q:")], start=True)
    # The cut is inside the first token, so no token is kept, and " th" + "e end" is encoded anew.
    assert seen == [prompt, prompt + encoded(tokenizer, " the end")]


def merging_engine(monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer) -> Engine:
    from ramet.runtime.config import EngineConfig
    from tests.runtime import conftest

    monkeypatch.setattr(conftest, "TOY_VOCAB", tokenizer.vocab_size)
    return Engine.of(conftest.ToyModel(), tokenizer, EngineConfig(num_blocks=64))


def test_deltas_of_a_program_join_to_its_values(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    allowed = restricted(engine.tokenizer, LETTERS)
    events = engine.stream(twice, stop="ab", allowed=allowed)
    deltas: dict[str, str] = {}
    for event in events:
        if isinstance(event, TextDelta):
            deltas[event.name] = deltas.get(event.name, "") + event.text
    first, second = events.result().value
    assert deltas == {"first": first, "second": second} or (first == "" and "first" not in deltas)


@ramet.program
def samples(s: ramet.State, n: int, logprobs: int | None = None) -> object:
    s += "Pick:"
    s += ramet.gen("x", n=n, temperature=1.5, max_tokens=6, ignore_eos=True, logprobs=logprobs)
    s += " and on"
    s += ramet.gen("y", max_tokens=3, ignore_eos=True)
    return s["x"], s["y"]


def test_n_samples_are_a_list_and_append_nothing(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    values, after = engine.run(samples, n=8).value
    engine.audit()
    assert len(set(values)) == 8
    tokens = encoded(engine.tokenizer, "Pick: and on")
    assert after == engine.tokenizer.decode(toy_text(tokens, 3))
    assert engine.run(samples, n=8).value == (values, after)
    assert engine.run(samples, n=5).value[0] == values[:5], "a sample's seed is its place"


def test_log_probabilities_of_a_program(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    finished = engine.run(samples, n=2, logprobs=2)
    info = finished.info("x")
    prompt = encoded(engine.tokenizer, "Pick:")
    for sample in info.samples:  # type: ignore[union-attr]
        assert len(sample.logprobs) == len(sample.tokens) == 6
        for at, draw in enumerate(sample.logprobs):
            known = [*prompt, *sample.tokens[:at]]
            row = toy_logits([(token, place) for place, token in enumerate(known)]).log_softmax(-1)
            assert draw.logprob == pytest.approx(float(row[draw.token]))
            assert [token for token, _ in draw.top] == row.topk(2).indices.tolist()

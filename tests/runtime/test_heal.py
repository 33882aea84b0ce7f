"""`gen(heal=True)`: the text goes on as a slow search of the whole vocabulary has it.

The model's logits are a hash of what is read from the cache, as wide as a vocabulary with merges.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import ramet
from ramet.errors import ParameterError
from ramet.runtime import Engine, Finished
from ramet.runtime.config import EngineConfig
from ramet.runtime.errors import ContextLengthError, RequestError, SamplingError
from ramet.runtime.events import TextDelta
from ramet.runtime.models import PagedAttention
from ramet.runtime.tokenizer import Piece, Tokenizer
from ramet.runtime.values import GenInfo, SamplesInfo
from tests.runtime.conftest import ToyModel, all_back, toy_logits
from tests.runtime.running import run
from tests.runtime.sampling.test_healing import (
    by_search,
    prompts,
    taken_by_search,
    tokenizer_of,
    vocabulary,
)
from tests.runtime.test_lattice import EVERYDAY, PLAIN, Setting
from tests.runtime.tokenizers import CORPUS, byte_level, wordpiece

Logits = Callable[[list[int]], Tensor]


def widened(row: Tensor, size: int) -> Tensor:
    """As many logits as there are tokens, all of which follow from these; none ties."""
    seed = hash(tuple(row.argsort(descending=True)[:8].tolist())) & 0xFFFFFFFF
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(size, generator=generator).float() * 0.02


class WideModel(ToyModel):
    """The toy model on another vocabulary. It knows the first 257 tokens, and takes the others for
    some of those."""

    def __init__(self, tokenizer: Tokenizer, context: int = 4096) -> None:
        super().__init__(context)
        self.shape = self.shape.__class__(
            **{
                **{name: getattr(self.shape, name) for name in self.shape.__slots__},
                "vocab": tokenizer.vocab_size,
            }
        )

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        found = super().forward(tokens, positions, attention, rows)
        if not len(found):
            return torch.empty(0, self.shape.vocab)
        return torch.stack([widened(row, self.shape.vocab) for row in found])

    def logits(self, tokens: list[int]) -> Tensor:
        """What comes after these tokens, worked out without a cache."""
        return widened(toy_logits([(t, i) for i, t in enumerate(tokens)]), self.shape.vocab)


def engine_of(tokenizer: Tokenizer, context: int = 4096, **settings: Any) -> Engine:
    config = EngineConfig(**{"num_blocks": 512, **settings})
    return Engine.of(WideModel(tokenizer, context), tokenizer, config)


@pytest.fixture(params=[1, 16])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = engine_of(byte_level(), block_size=request.param)
    yield made
    assert all_back(made.core)


def healed(prompt: str, **settings: Any) -> Any:
    """A program that goes on from the prompt."""

    @ramet.program
    def healing(s: ramet.State) -> None:
        s += prompt + ramet.gen("x", **{"max_tokens": 6, "heal": True, **settings})

    return healing


def asked(engine: Engine, prompt: str, **settings: Any) -> Finished:
    return run(engine, healed(prompt, **settings))


def info(done: Finished, name: str = "x") -> GenInfo:
    found = done.info(name)
    assert isinstance(found, GenInfo)
    return found


def by_hand(engine: Engine, prompt: str, count: int, *, ends: bool = True) -> list[int]:
    """The tokens that are drawn greedily, each the likeliest of all that can come next."""
    tokenizer, model = engine.tokenizer, engine.core.model
    assert isinstance(model, WideModel)
    words = vocabulary(tokenizer)
    ids = tokenizer.encode([Piece(prompt)], start=True)
    taken = taken_by_search(tokenizer, ids, prompt)
    left = b"".join(words[token] for token in ids[len(ids) - taken :])
    known, drawn = ids[: len(ids) - taken], list[int]()
    for _ in range(count):
        logits = model.logits([*known, *drawn])
        allowed = by_search(words, left) if left else set(range(tokenizer.vocab_size))
        drawn.append(max(allowed, key=lambda token: float(logits[token])))
        left = left[len(words.get(drawn[-1], b"")) :]
        if ends and drawn[-1] in tokenizer.eos_ids:
            break
    return drawn


def text_of(tokenizer: Tokenizer, tokens: list[int]) -> bytes:
    return b"".join(tokenizer.token_bytes(token) for token in tokens if tokenizer.is_text(token))


# -- against a search


@pytest.mark.parametrize("kind", ["byte_level", "first", "always", "legacy"])
def test_greedy_text_is_that_of_a_search(kind: str) -> None:
    tokenizer, rng = tokenizer_of(kind), random.Random(11)
    engine, moved = engine_of(tokenizer), 0
    for prompt in ["The qui", "é", "a naïve caf", *prompts(rng, 30)]:
        if len(tokenizer.encode([Piece(prompt)], start=True)) < 1:
            continue
        done = engine.run(healed(prompt))
        drawn = by_hand(engine, prompt, 6)
        assert list(info(done).tokens) == drawn, repr(prompt)
        ids = tokenizer.encode([Piece(prompt)], start=True)
        kept = len(ids) - taken_by_search(tokenizer, ids, prompt)
        moved += kept < len(ids)
        known = tokenizer.decode([*ids[:kept], *drawn], start=True)
        read = tokenizer.decode(ids, start=True)
        assert str(done["x"]) == known[len(read) :] or not known.startswith(read)
        engine.audit()
    assert moved > 8


def test_a_healed_word_goes_on_in_the_state(engine: Engine) -> None:
    """Its tokens are those before what was taken back, and those that were drawn."""

    @ramet.program
    def twice(s: ramet.State) -> None:
        s += "Give me three ti" + ramet.gen("x", max_tokens=4, heal=True)
        s += ramet.gen("y", max_tokens=4)

    done = run(engine, twice)
    tokenizer, model = engine.tokenizer, engine.core.model
    assert isinstance(model, WideModel)
    ids = tokenizer.encode([Piece("Give me three ti")], start=True)
    taken = taken_by_search(tokenizer, ids, "Give me three ti")
    known = [*ids[: len(ids) - taken], *by_hand(engine, "Give me three ti", 4)]
    assert taken > 0
    after = [*known]
    for token in info(done, "y").tokens:
        assert int(model.logits(after).argmax()) == token
        after.append(token)
    assert done.text == "Give me three ti" + str(done["x"]) + str(done["y"])
    assert done.usage.generated == 8
    assert done.usage.prompt_computed == len(ids) - taken + 1


@torch.inference_mode()
def test_smollm2(smollm2: tuple[Any, Path]) -> None:
    """Greedily, against transformers' logits and a search of all 49,152 tokens."""
    model, folder = smollm2
    tokenizer = Tokenizer.load(folder)
    engine = Engine.of(model, tokenizer, EngineConfig(num_blocks=64))
    module = AutoModelForCausalLM.from_pretrained(folder).eval()
    words = vocabulary(tokenizer)
    for prompt in ("The link is http:", "The capital of Fra", "I like to visit Lond", "Ünïcödé"):
        ids, left = taken_from(tokenizer, prompt)
        assert left
        drawn = info(engine.run(healed(prompt, ignore_eos=True))).tokens
        for token in drawn:
            best = module(torch.tensor([ids])).logits[0, -1]
            allowed = sorted(by_search(words, left)) if left else list(range(len(best)))
            top = best[allowed].topk(min(2, len(allowed)))
            assert token == allowed[int(top.indices[0])], prompt
            ids.append(token)
            left = left[len(words.get(token, b"")) :]


# -- what is not taken back


def test_tokens_that_were_drawn_stay(engine: Engine) -> None:
    @ramet.program
    def twice(s: ramet.State) -> None:
        s += "the" + ramet.gen("x", max_tokens=4)
        s += ramet.gen("y", max_tokens=4, heal=True)

    @ramet.program
    def plain(s: ramet.State) -> None:
        s += "the" + ramet.gen("x", max_tokens=4) + ramet.gen("y", max_tokens=4)

    assert run(engine, twice).value == run(engine, plain).value


def test_what_a_template_wrote_stays(engine: Engine) -> None:
    @ramet.program
    def chat(s: ramet.State, heal: bool) -> None:
        s += ramet.user("the qui")
        with s.assistant():
            s += ramet.gen("x", max_tokens=4, heal=heal)

    assert run(engine, chat, heal=True).value == run(engine, chat, heal=False).value


def test_text_behind_drawn_tokens_is_taken_back(engine: Engine) -> None:
    @ramet.program
    def behind(s: ramet.State) -> None:
        s += "a" + ramet.gen("x", max_tokens=2, ignore_eos=True)
        s += " the qui" + ramet.gen("y", max_tokens=4, heal=True)

    done = run(engine, behind)
    text = text_of(engine.tokenizer, list(info(done, "y").tokens))
    assert any(text.startswith(begin) for begin in (b" qui", b"qui", b"ui", b"i"))


# -- settings


def test_samples_heal_each_for_itself(engine: Engine) -> None:
    prompt = "Give me three tips about ba"
    one = asked(engine, prompt, n=8, temperature=4.0, seed=5)
    best = asked(engine, prompt, best_of=8, temperature=4.0, seed=5)

    found = one.info("x")
    assert isinstance(found, SamplesInfo)
    tokenizer = engine.tokenizer
    ids = tokenizer.encode([Piece(prompt)], start=True)
    taken = taken_by_search(tokenizer, ids, prompt)
    data = text_of(tokenizer, ids[len(ids) - taken :])
    for sample in found.samples:
        spelled = text_of(tokenizer, list(sample.tokens))
        assert spelled.startswith(data)
        rest = spelled[len(data) :].decode("utf-8", "replace")
        assert sample.text == rest
    assert len({sample.tokens[0] for sample in found.samples}) > 1
    assert sorted(info(best).texts) == sorted(sample.text for sample in found.samples)
    assert one.usage.prompt_computed == len(ids) - taken + 7


def test_branches_of_samples_and_of_forks_heal(engine: Engine) -> None:
    @ramet.program
    def branches(s: ramet.State) -> Any:
        s += "Give me three ti"
        drawn = s.branch(ramet.gen("x", n=3, temperature=2.0, max_tokens=3, heal=True, seed=4))
        forked = s.fork(2)
        for branch in forked:
            branch += ramet.gen("y", max_tokens=4, heal=True)
        return {"x": drawn["x"], "y": forked["y"]}

    done = run(engine, branches)
    listed = asked(engine, "Give me three ti", n=3, temperature=2.0, max_tokens=3, seed=4)
    assert [*done.value["x"]] == listed["x"]

    @ramet.program
    def forked(s: ramet.State) -> Any:
        s += "Give me three ti"
        both = s.fork(2)
        for branch in both:
            branch += ramet.gen("y", max_tokens=4, heal=True)
        return both["y"]

    alone = asked(engine, "Give me three ti", max_tokens=4)["x"]
    assert [*run(engine, forked).value] == [alone, alone]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5])
def test_max_tokens_may_end_before_all_is_healed(engine: Engine, most: int) -> None:
    """Then the text that is left goes back to the prompt, and is tokens again for the next draw."""
    tokenizer, model = engine.tokenizer, engine.core.model
    assert isinstance(model, WideModel)
    ids, data = taken_from(tokenizer, "a bre")
    letters = {byte: tokenizer.encode([Piece(chr(byte))], start=False)[0] for byte in data}
    assert len(data) == 4, data

    @ramet.program
    def cut(s: ramet.State) -> None:
        bias = dict.fromkeys(letters.values(), 100.0)
        s += "a bre" + ramet.gen("x", max_tokens=most, heal=True, logit_bias=bias)
        s += ramet.gen("y", max_tokens=3)

    done = run(engine, cut)
    drawn = list(info(done).tokens)
    assert drawn[:4] == [letters[byte] for byte in data][:most]
    assert done["x"] == tokenizer.decode(drawn[4:])
    known = [*ids, *drawn, *tokenizer.encode([Piece(data[most:].decode())], start=False)]
    for token in info(done, "y").tokens:
        assert int(model.logits(known).argmax()) == token
        known.append(token)
    assert done.text == "a bre" + str(done["x"]) + str(done["y"])
    assert done.usage.generated == most + len(info(done, "y").tokens)


def taken_from(tokenizer: Tokenizer, prompt: str) -> tuple[list[int], bytes]:
    """The tokens that stay, and the bytes that are taken back."""
    ids = tokenizer.encode([Piece(prompt)], start=True)
    stays = len(ids) - taken_by_search(tokenizer, ids, prompt)
    return ids[:stays], text_of(tokenizer, ids[stays:])


def test_a_stop_token_is_none_where_it_spells_the_prompt(engine: Engine) -> None:
    """But it is where it reaches beyond: then all of the prompt stays, and nothing else."""
    tokenizer = engine.tokenizer
    _, data = taken_from(tokenizer, "a bre")
    (space,) = tokenizer.encode([Piece(" ")], start=False)
    asks: dict[str, Any] = {"max_tokens": 8, "ignore_eos": True}

    spells = {"logit_bias": {space: 100.0}}
    free = asked(engine, "a bre", **asks, **spells)
    stopped = asked(engine, "a bre", **asks, **spells, stop_tokens=[space])
    assert info(free).tokens[0] == space
    assert info(stopped).tokens[: len(data)] == info(free).tokens[: len(data)]
    assert info(stopped).tokens.count(space) == 2, "the second one stops it"

    long = [
        t for t, word in vocabulary(tokenizer).items() if word.startswith(data) and word != data
    ]
    beyond = {"allowed_tokens": long, "stop_tokens": long}
    stopped = asked(engine, "a bre", **asks, **beyond)
    assert (stopped["x"], info(stopped).finish_reason) == ("", "stop")
    assert len(info(stopped).tokens) == 1
    assert stopped.text == "a bre"


@pytest.mark.parametrize("prompt", ["a th", "Give me three ti", "knead the dou"])
def test_stop_strings_begin_behind_the_prompt(engine: Engine, prompt: str) -> None:
    free = asked(engine, prompt, max_tokens=8, ignore_eos=True)
    text = str(free["x"])

    @ramet.program
    def stopped(s: ramet.State, stop: str) -> None:
        s += prompt + ramet.gen("x", max_tokens=8, ignore_eos=True, heal=True, stop=stop)
        s += ramet.gen("y", max_tokens=2)

    for at, letter in enumerate(text):
        if letter == "\ufffd":
            continue
        done = run(engine, stopped, stop=letter)
        assert done["x"] == text[: text.index(letter)], at
        assert done.text == prompt + str(done["x"]) + str(done["y"])


def test_it_is_told_from_behind_the_prompt(engine: Engine) -> None:
    events = [*engine.stream(healed("Give me three ti"))]
    told = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert told == asked(engine, "Give me three ti")["x"]


def test_min_tokens_log_probabilities_and_penalties(engine: Engine) -> None:
    done = asked(engine, "Give me three ti", min_tokens=6, logprobs=3, repetition_penalty=1.2)
    assert len(info(done).logprobs) == len(info(done).tokens) == 6
    drawn = [draw.token for draw in info(done).logprobs]
    assert tuple(drawn) == info(done).tokens


def test_stop_tokens_may_heal_before_min_tokens(engine: Engine) -> None:
    """They are ruled out there otherwise."""
    _, data = taken_from(engine.tokenizer, "a bre")
    words = vocabulary(engine.tokenizer)
    fits = sorted(by_search(words, data))
    done = asked(engine, "a bre", min_tokens=6, stop_tokens=fits)
    assert len(info(done).tokens) == 6
    assert info(done).tokens[0] in fits


def test_allowed_tokens_hold_too(engine: Engine) -> None:
    tokenizer = engine.tokenizer
    allowed = tokenizer.encode([Piece("the qui")], start=False)
    free = info(asked(engine, "a the qui", allowed_tokens=[*allowed, *range(3, 260)]))
    assert {*free.tokens} <= {*allowed, *range(3, 260)}
    with pytest.raises(SamplingError, match="every token is ruled out"):
        engine.run(healed("a the qui", allowed_tokens=tokenizer.encode([Piece("x")], start=False)))


# -- types


@pytest.mark.parametrize(
    ("prompt", "fields"),
    [
        ("In the year ", {"type": int}),
        ("knead the dou", {"regex": "gh[.!]|bt"}),
        ("a caf", {"regex": "é|e"}),
        ("a na\u00ef", {"grammar": 'start: /[a-z]{1,3}/ "\\""'}),
        ("the the ", {"json_schema": {"enum": [{"a": 1}, [True]]}}),
        ("the \u017c\u00f3", {"type": bool}),
    ],
)
def test_types_begin_inside_a_token(engine: Engine, prompt: str, fields: dict[str, Any]) -> None:
    done = engine.run(healed(prompt, max_tokens=40, **fields))
    plain = engine.run(healed(prompt, max_tokens=40, heal=False, **fields))

    tokenizer = engine.tokenizer
    spelled = text_of(tokenizer, list(info(done).tokens)).decode()
    ids = tokenizer.encode([Piece(prompt)], start=True)
    taken = taken_by_search(tokenizer, ids, prompt)
    assert taken > 0
    begin = text_of(tokenizer, ids[len(ids) - taken :]).decode()
    assert spelled == begin + info(done).text
    assert type(done["x"]) is type(plain["x"])
    assert done.text == prompt + info(done).text


def test_a_stop_in_a_typed_text(engine: Engine) -> None:
    done = engine.run(healed("knead the dou", regex="gh( gh)*", max_tokens=30, stop=" "))
    assert done["x"] == "gh"


# -- laws


def test_what_is_refused() -> None:
    with pytest.raises(ParameterError, match="heal is true, but a beam search heals no text"):
        ramet.gen("x", heal=True, beams=2)
    engine = engine_of(wordpiece())
    with pytest.raises(RequestError, match="heal: the tokens of this model's tokenizer stand for"):
        engine.run(healed("the quick"))


def test_a_context_that_is_full_but_for_what_is_taken_back() -> None:
    """Nothing that could run is refused beforehand."""
    tokenizer = byte_level()
    ids = tokenizer.encode([Piece("Give me three ti")], start=True)
    engine = engine_of(tokenizer, context=len(ids))
    assert info(engine.run(healed("Give me three ti"))).tokens
    with pytest.raises(ContextLengthError):
        engine.run(healed("Give me three ti", heal=False))


def test_equal_healing_is_done_once(engine: Engine) -> None:
    @ramet.program
    def either(s: ramet.State, heal: bool) -> None:
        s += "Give me three ti" + ramet.gen("x", max_tokens=6, heal=heal, ignore_eos=True)

    done = [
        each
        for each in engine.run_batch(either, [{"heal": heal} for heal in (True, True, False)])
        if isinstance(each, Finished)
    ]
    assert [each.usage.generated for each in done] == [6, 0, 6]
    assert done[0].value == done[1].value != done[2].value


# -- over the lattice of settings


WORDS = ["The qui", "Give me three ti", "knead the dou", "a naïve caf", "over the la", "the bre"]
STORY = " ".join(CORPUS)[:120]


@ramet.program
def crowd(s: ramet.State, words: list[str], fork: bool) -> Any:
    """Each word is healed greedily, and by two samples with seeds."""
    s += STORY
    if not fork:
        s += words[0]
        s += ramet.gen("x", heal=True, max_tokens=8, ignore_eos=True)
        s += " th" + ramet.gen("y", heal=True, n=2, temperature=2.0, max_tokens=8, seed=3)
        return {"x": [s["x"]], "y": [s["y"]]}
    branches = s.fork(words)
    for branch, word in zip(branches, words, strict=True):
        branch += word + ramet.gen("x", heal=True, max_tokens=8, ignore_eos=True)
        branch += " th" + ramet.gen("y", heal=True, n=2, temperature=2.0, max_tokens=8, seed=3)
    return {"x": branches["x"], "y": branches["y"]}


def crowded(point: Setting) -> tuple[list[Any], list[Any], Engine]:
    """What is drawn for each word, by itself and after it was healed; `together` at once."""
    tokenizer = byte_level()
    longest = len(tokenizer.encode([Piece(STORY)], start=True)) + 40
    needed = -(-longest // point.block) + 1
    engine = engine_of(
        tokenizer,
        block_size=point.block,
        prefill_chunk=point.chunk,
        sharing=point.sharing,
        num_blocks=needed + 2 if point.small else 64 * needed,
    )
    many = WORDS * 2
    items = [{"words": [word], "fork": False} for word in many]
    if point.forked:
        items = [{"words": many, "fork": True}]
    found = engine.run_batch(crowd, items, concurrency=min(point.together, len(items)))
    values = [each.value for each in found if isinstance(each, Finished)]
    assert len(values) == len(items), found
    assert all_back(engine.core)
    listed = [[*(x for v in values for x in v[name])] for name in ("x", "y")]
    return listed[0], listed[1], engine


@pytest.fixture(scope="module")
def plainly() -> tuple[list[Any], list[Any]]:
    one, other, _ = crowded(PLAIN)
    return one, other


@pytest.mark.parametrize("point", EVERYDAY, ids=str)
def test_no_setting_changes_a_healed_text(
    point: Setting, plainly: tuple[list[Any], list[Any]]
) -> None:
    one, other, engine = crowded(point)
    assert (one, other) == plainly
    if point.small and point.together > 1:
        assert engine.stats().preemptions > 0


def test_the_plain_one_is_that_of_a_search(plainly: tuple[list[Any], list[Any]]) -> None:
    engine = engine_of(byte_level())
    for word, text in zip(WORDS * 2, plainly[0], strict=True):
        drawn = by_hand(engine, STORY + word, 8, ends=False)
        spelled = text_of(engine.tokenizer, drawn).decode("utf-8", "replace")
        assert spelled.endswith(str(text))
        assert (STORY + word).endswith(spelled.removesuffix(str(text)))

"""Samples of one context: what they share, and the best of many."""

import math
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

import ramet
from ramet.errors import LimitError
from ramet.limits import Limits
from ramet.passes.plan import plan
from ramet.runtime import Engine, Finished
from ramet.runtime.errors import ContextLengthError, GenerationError
from ramet.runtime.events import TextDelta
from ramet.runtime.values import GenInfo, SamplesInfo
from ramet.syntax.blocks import parse
from ramet.syntax.printer import print_module
from tests.runtime.conftest import ToyEngine, all_back, toy_model
from tests.runtime.legible import encoded, legible, legible_logits, letters
from tests.runtime.running import gen, run

PROMPT = "a bad egg "


@pytest.fixture(params=[4, 16])
def engine(request: pytest.FixtureRequest, toy_engine: ToyEngine) -> Engine:
    return legible(toy_engine(block_size=request.param))


def asked(**settings: Any) -> Any:
    """A program that draws once, and says what it drew."""

    @ramet.program
    def drawn(s: ramet.State) -> None:
        s += PROMPT + gen("x", count=6, **{"temperature": 1.5, **settings})

    return drawn


def mean(engine: Engine, text: str) -> float:
    """Mean log-probability of a text behind the prompt, worked out without a cache."""
    tokens = encoded(engine, PROMPT + text)
    begin = len(encoded(engine, PROMPT))
    return fmean(
        float(legible_logits(engine, tokens[:at]).log_softmax(-1)[tokens[at]])
        for at in range(begin, len(tokens))
    )


def samples(done: Finished) -> SamplesInfo:
    found = done.info("x")
    assert isinstance(found, SamplesInfo)
    return found


# -- what they share


@pytest.mark.parametrize("length", [33, 48, 61])
@pytest.mark.parametrize("size", [1, 4, 16])
def test_16_samples_cost_one_prefill_and_15_copies(
    toy_engine: ToyEngine, length: int, size: int
) -> None:
    """Each computes the last token, whose logits it wants; the others are computed once. Their tail
    is copied for all writers but the last. If the last token fills a block, one writes that, and
    all others find it."""
    engine = toy_engine(block_size=size, num_blocks=2048)

    @ramet.program
    def drawn(s: ramet.State) -> None:
        s += "a" * length
        s += gen("x", count=4, n=16, temperature=2.0, seed=3)

    done = run(engine, drawn)

    assert len(set(samples(done).text)) > 8
    assert done.usage.prompt_computed == length + 15
    assert done.usage.prompt_reused == 16 * length - done.usage.prompt_computed
    assert done.usage.generated == 16 * 4
    writers = 16 if length % size else 2
    assert done.usage.copied_blocks == (writers - 1 if (length - 1) % size else 0)
    assert toy_model(engine.core).tokens_run == length + 15 + 16 * 3


def test_samples_of_a_computed_context_leave_its_tail_to_it(toy_engine: ToyEngine) -> None:
    """16 writers, and the state itself, which goes on from there."""
    engine = legible(toy_engine())

    @ramet.program
    def drawn(s: ramet.State) -> None:
        s += PROMPT + gen("before") + gen("x", n=16, temperature=2.0) + gen("after")

    done = run(engine, drawn)

    assert done.usage.prompt_computed == len(encoded(engine, PROMPT)) + 16 + 1
    assert done.usage.copied_blocks <= 17
    before = letters(engine, PROMPT, 4)
    assert done["before"] == before
    assert done["after"] == letters(engine, PROMPT + before, 4)


@pytest.mark.parametrize("best_of", [1, 4])
def test_a_prompt_that_fills_the_context_is_not_run(toy_engine: ToyEngine, best_of: int) -> None:
    engine = toy_engine(context=32)

    @ramet.program
    def drawn(s: ramet.State) -> None:
        s += "a" * 32 + gen("x", n=2, best_of=best_of, temperature=1.0)

    with pytest.raises(ContextLengthError):
        engine.run(drawn)
    assert toy_model(engine.core).tokens_run == 0
    assert all_back(engine.core)


# -- the best of many


@pytest.mark.parametrize("n", [1, 3])
def test_the_best_are_kept_best_first(engine: Engine, n: int) -> None:
    every = samples(run(engine, asked(n=8, logprobs=0)))
    done = run(engine, asked(n=n, best_of=8))

    ranked = sorted(every.samples, key=lambda one: -mean(engine, one.text))
    found = done.info("x") if n == 1 else samples(done).samples[0]
    assert isinstance(found, GenInfo)
    assert found.texts == tuple(one.text for one in ranked)
    assert found.scores == pytest.approx([mean(engine, one.text) for one in ranked], abs=1e-4)
    assert len(set(found.scores)) > 4
    kept = [one.text for one in ranked[:n]]
    assert done["x"] == (kept[0] if n == 1 else kept)
    assert done.text == PROMPT + (kept[0] if n == 1 else "")
    assert done.usage.generated == 8 * 6
    assert found.logprobs == ()


def test_the_score_is_the_mean_of_the_log_probabilities(engine: Engine) -> None:
    info = run(engine, asked(best_of=4, logprobs=2)).info("x")
    assert isinstance(info, GenInfo)
    assert info.score == info.scores[0] == fmean(draw.logprob or math.nan for draw in info.logprobs)
    assert len(info.logprobs[0].top) == 2


def test_as_many_as_are_kept_come_best_first(engine: Engine) -> None:
    drawn = samples(run(engine, asked(n=4)))
    ranked = samples(run(engine, asked(n=4, best_of=4)))
    assert sorted(drawn.text) == sorted(ranked.text)  # type: ignore[type-var]
    assert ranked.score == sorted(ranked.score, reverse=True)  # type: ignore[type-var]


def test_the_state_goes_on_in_the_best_one(engine: Engine) -> None:
    @ramet.program
    def goes_on(s: ramet.State) -> None:
        s += PROMPT + gen("x", count=6, temperature=1.5, best_of=8) + gen("y")

    done = run(engine, goes_on)

    best = str(done["x"])
    assert done["y"] == letters(engine, PROMPT + best, 4)
    assert done.usage.prompt_computed == len(encoded(engine, PROMPT)) + 7 + 1


def test_a_computed_state_goes_on_with_a_copy_less(toy_engine: ToyEngine) -> None:
    engine = legible(toy_engine())

    @ramet.program
    def goes_on(s: ramet.State) -> None:
        s += PROMPT + gen("before") + gen("x", temperature=2.0, best_of=16)

    assert run(engine, goes_on).usage.copied_blocks == 15


def test_the_best_go_on_as_branches(engine: Engine) -> None:
    @ramet.program
    def branches(s: ramet.State) -> Any:
        s += PROMPT
        best = s.branch(gen("x", count=6, temperature=4.0, n=2, best_of=8))
        for branch in best:
            branch += gen("y")
        return {"x": best["x"], "y": best["y"], "scores": best["x"].scores}

    done = run(engine, branches)

    ranked = samples(run(engine, asked(n=2, best_of=8, temperature=4.0)))
    assert [*done.value["x"]] == ranked.text
    assert [*done.value["y"]] == [letters(engine, PROMPT + str(x), 4) for x in ranked.text]
    assert done.value["scores"] == [pytest.approx(one.scores, abs=1e-4) for one in ranked.samples]
    assert done.usage.generated == 8 * 6 + 2 * 4
    assert plan(done.graph, len).generated == 8 * 6 + 2 * 4
    assert plan(done.graph, len).branches == 2


def test_losers_give_their_blocks_back_at_once(engine: Engine) -> None:
    @ramet.program
    def waits(s: ramet.State) -> None:
        s += PROMPT + gen("x", count=6, temperature=1.5, best_of=8)
        _ = str(s["x"])
        s += gen("y", count=1)

    open_then: list[int] = []
    forward = engine.core.runner.run

    def watched(batch: Any) -> Any:
        open_then.append(engine.stats().sequences)
        return forward(batch)

    engine.core.runner.run = watched  # type: ignore[method-assign]
    run(engine, waits)
    assert open_then == [1] + [8] * 6 + [1]


def test_equal_texts_are_told_once_and_when_it_is_decided(engine: Engine) -> None:
    told = [
        (event.sample, event.text)
        for event in engine.stream(asked(n=2, best_of=6))
        if isinstance(event, TextDelta)
    ]
    best = samples(run(engine, asked(n=2, best_of=6)))
    assert told == list(enumerate(best.text))


def test_what_is_cut_loses(toy_engine: ToyEngine) -> None:
    """Of a type: a text that is whole beats likelier ones that are not."""
    engine = legible(toy_engine())

    @ramet.program
    def typed(s: ramet.State, n: int, best_of: int, seed: int = 5) -> None:
        s += PROMPT + ramet.gen(
            "x", regex="[ab]*c", max_tokens=4, n=n, best_of=best_of, temperature=9.0, seed=seed
        )

    done = engine.run(typed, n=2, best_of=12)
    found = samples(done).samples[0]
    whole = [text.endswith("c") for text in found.texts]
    assert whole == sorted(whole, reverse=True)
    assert 2 <= sum(whole) < 12
    assert max(found.scores) > found.scores[0], "the seed was chosen so that a cut one is likelier"
    assert all(str(text).endswith("c") for text in done["x"])  # type: ignore[attr-defined]

    with pytest.raises(GenerationError, match=r"max_tokens=4 cut the text .* whole regex"):
        engine.run(typed, n=12, best_of=12)


def test_the_end_of_a_typed_text_does_not_count(toy_engine: ToyEngine) -> None:
    engine = legible(toy_engine())

    @ramet.program
    def typed(s: ramet.State) -> None:
        s += PROMPT + ramet.gen(
            "x", regex="[a-h]{2,9}", best_of=6, temperature=1.0, max_tokens=10, seed=1
        )

    info = engine.run(typed).info("x")
    assert isinstance(info, GenInfo)
    assert info.scores == pytest.approx([mean(engine, text) for text in info.texts], abs=1e-4)


def test_all_that_is_drawn_counts_to_the_limits(engine: Engine) -> None:
    engine.config = replace(engine.config, limits=Limits(tokens=47))
    with pytest.raises(LimitError, match="tokens"):
        engine.run(asked(best_of=8))
    engine.config = replace(engine.config, limits=Limits(tokens=48))
    engine.run(asked(best_of=8))


def test_equal_work_with_a_seed_is_done_once(engine: Engine) -> None:
    @ramet.program
    def twice(s: ramet.State) -> Any:
        s += PROMPT
        both = s.fork(2)
        for branch in both:
            branch += gen("x", count=6, temperature=1.5, best_of=8, seed=7) + gen("y")
        return {"x": both["x"], "y": both["y"]}

    done = run(engine, twice)
    assert len({*done.value["x"]}) == len({*done.value["y"]}) == 1
    assert done.usage.generated == 8 * 6 + 4


def test_as_text() -> None:
    source = 'program p():\n    "Q"\n    fork gen x(n=2, best_of=8, temperature=0.5) as xs:\n'
    source += '        "."\n'
    graph = ramet.loads(source).trace()
    assert ramet.from_json(ramet.to_json(graph)) == graph
    assert "best_of=8" in str(graph)
    assert print_module(parse(source)) == source

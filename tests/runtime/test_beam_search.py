"""What searches in the engine find, whatever the blocks and the company, and what they leave."""

from collections import Counter
from typing import Any

import pytest
import torch

import ramet
from ramet.runtime import Engine, Event, TextDelta, ValueBound
from ramet.runtime.values import GenInfo
from tests.runtime.beams import Tokens, plainly
from tests.runtime.conftest import TOY_EOS, TOY_VOCAB, ToyEngine, all_back, random_logits
from tests.runtime.running import run
from tests.runtime.searches import (
    PROMPT,
    check,
    expected,
    info,
    letters,
    params_of,
    search,
    tokens_of,
)

pytestmark = pytest.mark.usefixtures("one_thread", "no_ties")

# -- what is found

SETTINGS: list[dict[str, Any]] = [
    {},
    {"block_size": 1},
    {"block_size": 4, "num_blocks": 24},
    {"block_size": 4, "num_blocks": 20, "max_sequences": 1},
    {"block_size": 4, "prefill_chunk": 3},
    {"block_size": 4, "step_tokens": 3},
    {"block_size": 32, "sharing": False},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("beams", [2, 3, 5])
def test_the_hypotheses_do_not_depend_on_the_settings(
    toy_engine: ToyEngine, settings: dict[str, int], beams: int
) -> None:
    engine = toy_engine(**settings | {"num_blocks": settings.get("num_blocks", 256)})
    params = params_of(engine, beams=beams, max_tokens=8 if beams < 5 else 3)
    check(engine, run(engine, search, text=PROMPT, params=params), PROMPT, params)


FIELDS: list[dict[str, Any]] = [
    {"length_penalty": 0.0, "early_stopping": True},
    {"length_penalty": 2.0, "early_stopping": "never"},
    {"min_tokens": 4, "length_penalty": 0.0},
    {"ignore_eos": True},
    {"stop_tokens": (20, 30, 65, 66, 67)},
    {"allowed_tokens": None},
    {"max_tokens": 1},
    {"beams": 8, "max_tokens": 12, "length_penalty": 0.5},
]


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_the_parameters(toy_engine: ToyEngine, fields: dict[str, Any], every: bool) -> None:
    engine = toy_engine(block_size=4)
    params = params_of(engine, **fields)
    params = params_of(engine, **fields, n=params.beams if every else 1)
    check(engine, run(engine, search, text=PROMPT, params=params), PROMPT, params)


def test_a_search_is_over_when_nothing_can_change_what_is_wanted(toy_engine: ToyEngine) -> None:
    """With the best alone it takes fewer steps, with a bias that can raise a score it does not."""
    taken: dict[int, int] = {}
    for n in (1, 4):
        engine = toy_engine(block_size=4)
        params = params_of(engine, n=n, length_penalty=0.0, stop_tokens=(65, 66), max_tokens=30)
        check(engine, run(engine, search, text=PROMPT, params=params), PROMPT, params)
        taken[n] = engine.stats().steps
    assert taken[1] < taken[4] < 30
    for bias, steps in ((-1.0, taken[1]), (0.5, taken[4])):
        engine = toy_engine(block_size=4)
        params = params_of(
            engine,
            length_penalty=0.0,
            early_stopping="never",
            stop_tokens=(65, 66),
            max_tokens=30,
            logit_bias={1: bias},  # of a token that is not allowed
        )
        run(engine, search, text=PROMPT, params=params)
        assert engine.stats().steps == steps


def test_a_bias_counts_in_the_score(toy_engine: ToyEngine) -> None:
    """Also one that raises it above zero."""
    engine = toy_engine(block_size=4)
    (a,) = tokens_of(engine, "a")
    for bias in (-4.0, 0.5, 9.0):
        params = params_of(engine, n=2, logit_bias={a: bias}, early_stopping="never")
        prompt = tokens_of(engine, PROMPT)

        def logprobs(tokens: Tokens) -> list[float]:
            row = [*prompt, *tokens]  # noqa: B023
            found = (
                random_logits([(t, place) for place, t in enumerate(row)]).log_softmax(-1).tolist()
            )
            return [
                (found[t] + (bias if t == a else 0.0)) if t in letters(engine) else -torch.inf  # noqa: B023
                for t in range(TOY_VOCAB)
            ]

        wanted = plainly(logprobs, lambda tokens: tokens[-1] == TOY_EOS, params, 9).hypotheses
        samples: Any = run(engine, search, text=PROMPT, params=params).info("best")
        assert samples.tokens == [each.tokens for each in wanted[:2]]
        assert samples.score == pytest.approx([each.score for each in wanted[:2]], abs=1e-5)
    assert wanted[0].score > 0


def test_searches_and_others_in_one_batch(toy_engine: ToyEngine) -> None:
    """Each finds what it finds alone, and the searches take no more steps than the longest."""
    engine = toy_engine(block_size=4)
    runs = []
    texts = [PROMPT, PROMPT + " goes on", "another", "x", "a fifth of a dozen"]
    for at, text in enumerate(texts):
        params = params_of(engine, beams=1 if at == 3 else 2 + at, ignore_eos=at == 1)
        runs.append((text, params, engine.start(search, {"text": text, "params": params})))
    alone = run(toy_engine(), search, text="x", params=params_of(engine, beams=1))
    while not all(one.done for _, _, one in runs):
        engine.round([one for _, _, one in runs])
        engine.audit()
    for text, params, one in runs:
        if params.beams > 1:
            check(engine, one.result(), text, params)
        else:
            assert one.result()["best"] == alone["best"]
    assert engine.stats().steps <= 9 + 2, "one for a prompt that waits for another's blocks"
    assert all_back(engine.core)


def test_a_long_prompt_does_not_hold_a_search_up(toy_engine: ToyEngine) -> None:
    """Its beams go before the prompt's chunks, though they are tasks of their own each step."""
    engine = toy_engine(block_size=4, step_tokens=16)
    params = params_of(engine, ignore_eos=True, max_tokens=8)
    one = engine.start(search, {"text": PROMPT, "params": params})
    engine.round([one])
    other = engine.start(search, {"text": "y" * 200, "params": params})
    for _ in range(8):
        engine.round([one, other])
    assert one.done
    assert not other.done
    while not other.done:
        engine.round([other])
    check(engine, other.result(), "y" * 200, params)


def test_penalties_count_each_beams_own_tokens(toy_engine: ToyEngine) -> None:
    engine = toy_engine(block_size=4)
    params = params_of(engine, ignore_eos=True, frequency_penalty=1.5, repetition_penalty=1.2)
    prompt = tokens_of(engine, PROMPT)
    allowed = letters(engine)[:-1]

    def logprobs(tokens: Tokens) -> list[float]:
        row = [*prompt, *tokens]
        found = (
            random_logits([(token, place) for place, token in enumerate(row)])
            .log_softmax(-1)
            .tolist()
        )
        counts = Counter(tokens)
        return [
            found[t] * (1.2 if t in row else 1.0) - 1.5 * counts[t] if t in allowed else -torch.inf
            for t in range(TOY_VOCAB)
        ]

    params = params_of(engine, **params.to_dict() | {"allowed_tokens": allowed})
    wanted = plainly(logprobs, lambda tokens: False, params, 9).hypotheses
    found = info(run(engine, search, text=PROMPT, params=params))
    assert found.tokens == wanted[0].tokens
    assert found.score == pytest.approx(wanted[0].score, abs=1e-5)


def test_log_probabilities_are_the_models_own(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    params = params_of(engine, logprobs=2)
    found = info(run(engine, search, text=PROMPT, params=params))
    row = tokens_of(engine, PROMPT)
    assert [draw.token for draw in found.logprobs] == list(found.tokens)
    for draw in found.logprobs:
        own = random_logits([(token, place) for place, token in enumerate(row)]).log_softmax(-1)
        best = own.topk(2)
        assert draw.logprob == pytest.approx(float(own[draw.token]), abs=1e-5)
        assert [token for token, _ in draw.top] == best.indices.tolist()
        assert [value for _, value in draw.top] == pytest.approx(best.values.tolist(), abs=1e-5)
        row.append(draw.token)
    total = sum(draw.logprob or 0.0 for draw in found.logprobs)
    assert found.score == pytest.approx(total / len(found.tokens), abs=1e-5)


# -- where a hypothesis ends


STOPS = ("a", "cd", "h ")


@pytest.mark.parametrize("fields", [{"stop": STOPS}, {"stop_regex": "|".join(STOPS)}], ids=str)
def test_a_stop_in_the_text_ends_a_hypothesis(
    toy_engine: ToyEngine, fields: dict[str, Any]
) -> None:
    engine = toy_engine(block_size=4)
    params = params_of(engine, length_penalty=0.0, n=4, **fields)
    wanted = expected(engine, PROMPT, params_of(engine, length_penalty=0.0, stop=STOPS))
    found: Any = run(engine, search, text=PROMPT, params=params).info("best")
    assert found.score == pytest.approx([each.score for each in wanted], abs=1e-5)
    for text, (tokens, _) in zip(found.text, wanted, strict=True):
        whole = engine.tokenizer.decode([token for token in tokens if token != TOY_EOS])
        cut = min([at for stop in STOPS if (at := whole.find(stop)) >= 0] or [99])
        assert text == whole[:cut]


def finishing(engine: Engine, reason: str, **fields: Any) -> GenInfo:
    """The best hypothesis of a search, which ends for that reason, with what follows it."""
    params = params_of(engine, **fields)
    for text in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine"):

        @ramet.program
        def goes_on(s: ramet.State) -> None:
            s += text  # noqa: B023
            s += ramet.gen("best", **params.to_dict())
            s += ramet.gen("more", max_tokens=3, ignore_eos=True)

        done = run(engine, goes_on)
        found = info(done)
        if found.finish_reason == reason and found.text:
            row = tokens_of(engine, text + found.text)
            for token in info(done, "more").tokens:
                assert token == int(random_logits(list(zip(row, range(99), strict=False))).argmax())
                row.append(token)
            assert info(done, "more").usage.prompt_computed == 1, "nothing is computed again"
            return found
    raise AssertionError(f"no text ends with {reason}")


def test_what_follows_a_search_goes_on_from_the_best(toy_engine: ToyEngine) -> None:
    engine = toy_engine(block_size=4)
    ended = finishing(engine, "eos", length_penalty=0.0)
    assert ended.tokens[-1] == TOY_EOS
    assert ended.stop is None
    full = finishing(engine, "length", ignore_eos=True, allowed_tokens=letters(engine)[:-1])
    assert len(full.tokens) == len(full.text) == 9
    cut = finishing(engine, "stop", stop="ab", allowed_tokens=letters(engine)[:-1], max_tokens=30)
    assert cut.stop == "ab"
    assert engine.tokenizer.decode(list(cut.tokens)) == cut.text + "ab"
    (stop,) = tokens_of(engine, "c")
    by_token = finishing(engine, "stop", stop_tokens=(stop,), length_penalty=0.0, ignore_eos=True)
    assert by_token.tokens[-1] == stop
    assert by_token.stop is None


# -- lists and branches


def test_the_best_of_a_search_as_a_list(toy_engine: ToyEngine) -> None:
    """Nothing is appended."""
    engine = toy_engine(block_size=4)
    params = params_of(engine, n=3)
    done = run(engine, search, text=PROMPT, params=params)
    wanted = expected(engine, PROMPT, params)
    samples: Any = done.info("best")
    assert done["best"] == samples.text
    assert samples.tokens == [each.tokens for each in wanted[:3]]
    assert samples.score == pytest.approx([each.score for each in wanted[:3]], abs=1e-5)
    assert samples.scores[2] == pytest.approx([each.score for each in wanted], abs=1e-5)
    assert done.text == PROMPT


@pytest.mark.parametrize("n", [1, 3])
def test_every_hypothesis_goes_on_as_a_branch(toy_engine: ToyEngine, n: int) -> None:
    engine = toy_engine(block_size=4)
    params = params_of(engine, n=n, length_penalty=0.0)

    @ramet.program
    def branching(s: ramet.State) -> object:
        s += PROMPT
        branches = s.branch(ramet.gen("best", **params.to_dict()))
        for branch in branches:
            branch += "!" + ramet.gen("more", max_tokens=3, ignore_eos=True)
        s += ramet.gen("own", max_tokens=2, ignore_eos=True)
        return branches["best"], branches["more"]

    done = run(engine, branching)
    wanted = expected(engine, PROMPT, params)[: n if n > 1 else 4]
    assert len(done.root.branches) == len(wanted)
    for branch, (tokens, score) in zip(done.root.branches, wanted, strict=True):
        best, more = branch.infos["best"], branch.infos["more"]
        assert isinstance(best, GenInfo)
        assert isinstance(more, GenInfo)
        assert best.tokens == tokens
        assert best.score == pytest.approx(score, abs=1e-5)
        row = tokens_of(engine, PROMPT + best.text + "!")
        for token in more.tokens:
            assert token == int(random_logits(list(zip(row, range(99), strict=False))).argmax())
            row.append(token)
        assert more.usage.prompt_computed <= 2, "the last token of the hypothesis, and the text"
    row = tokens_of(engine, PROMPT)
    own = int(random_logits(list(zip(row, range(99), strict=False))).argmax())
    assert info(done, "own").tokens[0] == own


def test_fewer_hypotheses_than_branches(toy_engine: ToyEngine) -> None:
    """Those left over begin with the same again."""
    engine = toy_engine(block_size=4)
    a, b = tokens_of(engine, "ab")

    @ramet.program
    def branching(s: ramet.State) -> object:
        s += PROMPT
        branches = s.branch(ramet.gen("x", beams=5, max_tokens=1, allowed_tokens=[a, b]))
        for branch in branches:
            branch += ramet.gen("more", max_tokens=2, ignore_eos=True)
        listed = ramet.gen("y", beams=5, n=5, max_tokens=1, allowed_tokens=[a, b])
        s += listed
        return branches["x"], branches["more"], s["y"]

    texts, more, listed = run(engine, branching).value
    assert texts == [*texts[:2], *texts[:2], texts[0]]
    assert sorted(texts[:2]) == ["a", "b"]
    assert more == [*more[:2], *more[:2], more[0]]
    assert listed == texts[:2]


def test_events(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    events: list[Event] = []
    params = params_of(engine)
    one = engine.start(search, {"text": PROMPT, "params": params}, on_event=events.append)
    while not one.done:
        engine.round([one])
    text = info(one.result()).text
    *deltas, bound = events
    assert isinstance(bound, ValueBound)
    assert (bound.name, bound.value) == ("best", text)
    assert {each.name for each in deltas if isinstance(each, TextDelta)} == {"best"}
    assert "".join(each.text for each in deltas if isinstance(each, TextDelta)) == text

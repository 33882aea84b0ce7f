"""Searches in the engine, on a model that can be worked out: what they find, whatever the blocks
and the company; what they leave; and that everything comes back."""

import random
from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import ramet
from ramet.params import SamplingParams
from ramet.runtime import Engine, Event, Finished, TextDelta, ValueBound
from ramet.runtime.batch import Batch
from ramet.runtime.beam import BeamSearch
from ramet.runtime.errors import CapacityError, SamplingError, StepError
from ramet.runtime.tokenizer import Piece
from ramet.runtime.values import GenInfo
from tests.runtime import conftest
from tests.runtime.beams import Scored, Tokens, plainly, words
from tests.runtime.conftest import TOY_EOS, TOY_VOCAB, ToyEngine, all_back, toy_model

pytestmark = pytest.mark.usefixtures("one_thread")

LETTERS = "abcdefgh "
PROMPT = "the beginning"  # 13 tokens


@pytest.fixture(autouse=True)
def no_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "toy_logits", words)


def tokens_of(engine: Engine, text: str) -> list[int]:
    return engine.tokenizer.encode([Piece(text)], start=True)


def letters(engine: Engine, *others: int) -> tuple[int, ...]:
    """`allowed_tokens`: a few letters, the end, and these."""
    return (*tokens_of(engine, LETTERS), TOY_EOS, *others)


def expected(engine: Engine, text: str, params: SamplingParams) -> list[Scored]:
    """What the search finds, worked out without any cache."""
    prompt = tokens_of(engine, text)
    ends = {*params.stop_tokens} | (set() if params.ignore_eos else {TOY_EOS})
    stops = (params.stop,) if isinstance(params.stop, str) else params.stop
    ruled_out = sorted(set(range(TOY_VOCAB)) - set(params.allowed_tokens or range(TOY_VOCAB)))

    @cache
    def logprobs(tokens: Tokens) -> list[float]:
        row = [*prompt, *tokens]
        found = words([(token, place) for place, token in enumerate(row)]).log_softmax(-1)
        found[ruled_out] = -torch.inf
        if len(tokens) < params.min_tokens:
            found[[*ends, TOY_EOS]] = -torch.inf
        return found.tolist()

    def ended(tokens: Tokens) -> bool:
        text = engine.tokenizer.decode(list(tokens))
        return tokens[-1] in ends or any(stop in text for stop in stops)

    return plainly(logprobs, ended, params, params.max_tokens).hypotheses


def run(engine: Engine, program: Any, **arguments: Any) -> Finished:
    """Run with an audit after every step."""
    one = engine.start(program, arguments)
    while not one.done:
        engine.round([one])
        engine.audit()
    assert all_back(engine.core)
    return one.result()


def info(done: Finished, name: str = "best") -> GenInfo:
    found = done.info(name)
    assert isinstance(found, GenInfo)
    return found


@ramet.program
def search(s: ramet.State, text: str, params: Any) -> None:
    s += text
    s += ramet.gen("best", **params.to_dict())


def params_of(engine: Engine, **fields: Any) -> SamplingParams:
    defaults: dict[str, Any] = {"beams": 4, "max_tokens": 9, "allowed_tokens": letters(engine)}
    return SamplingParams(**defaults | fields)


def check(engine: Engine, done: Finished, text: str, params: SamplingParams) -> None:
    """The best hypothesis is the expected one; with `n` as many as there are beams, all are."""
    wanted, found = expected(engine, text, params), done.info("best")
    ends = {TOY_EOS, *params.stop_tokens}
    visible = [engine.tokenizer.decode([t for t in each if t not in ends]) for each, _ in wanted]
    if isinstance(found, GenInfo):
        assert found.tokens == wanted[0].tokens
        assert found.text == found.texts[0] == visible[0]
        assert found.score == found.scores[0] == pytest.approx(wanted[0].score, abs=1e-5)
        assert list(found.scores) == sorted(found.scores, reverse=True)
        assert done.text == text + found.text
        return
    infos: Any = found
    assert infos.tokens == [each.tokens for each in wanted[: params.n]]
    assert infos.text == visible[: params.n]
    assert infos.score == pytest.approx([each.score for each in wanted[: params.n]], abs=1e-5)
    assert params.n < params.beams or infos.scores[0] == tuple(infos.score)


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
            found = words([(t, place) for place, t in enumerate(row)]).log_softmax(-1).tolist()
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
        found = words([(token, place) for place, token in enumerate(row)]).log_softmax(-1).tolist()
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
        own = words([(token, place) for place, token in enumerate(row)]).log_softmax(-1)
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
                assert token == int(words(list(zip(row, range(99), strict=False))).argmax())
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
            assert token == int(words(list(zip(row, range(99), strict=False))).argmax())
            row.append(token)
        assert more.usage.prompt_computed <= 2, "the last token of the hypothesis, and the text"
    row = tokens_of(engine, PROMPT)
    own = int(words(list(zip(row, range(99), strict=False))).argmax())
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


# -- blocks


def test_w_writers_in_one_tail_make_one_copy_less(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at a block's edge none; nothing else is ever copied."""
    engine = toy_engine(block_size=4)
    turns: list[int] = []  # forks that will write
    advance = BeamSearch.advance

    def watched(self: BeamSearch, *given: Any) -> None:
        advance(self, *given)
        turns.append(len(self.live) - len({path.beam for path in self.live}))

    monkeypatch.setattr(BeamSearch, "advance", watched)
    steps: list[tuple[int, int]] = []  # where is written, copies
    inner = engine.core.runner.run

    def noted(batch: Batch) -> Tensor:
        steps.append((batch.entries[0].start, len(batch.copies)))
        return inner(batch)

    engine.core.runner.run = noted  # type: ignore[method-assign]
    params = params_of(engine, beams=6, max_tokens=16, ignore_eos=True)
    done = run(engine, search, text=PROMPT, params=params)

    wanted = [
        forks if place % 4 else 0 for forks, (place, _) in zip(turns, steps[1:], strict=False)
    ]
    assert [copies for _, copies in steps] == [0, *wanted]
    assert sum(wanted) > 20
    assert done.usage.copied_blocks == sum(wanted) == engine.stats().cache.copies


def test_losers_give_their_blocks_back_in_the_same_step(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step there are the live beams and the hypotheses that are kept, and no more."""
    searches: list[BeamSearch] = []
    begin = BeamSearch.__init__

    def noted(self: BeamSearch, *given: Any, **options: Any) -> None:
        begin(self, *given, **options)
        searches.append(self)

    monkeypatch.setattr(BeamSearch, "__init__", noted)
    engine = toy_engine(block_size=2)
    params = params_of(engine, beams=5, max_tokens=20, stop_tokens=(65, 66), length_penalty=2.0)
    one = engine.start(search, {"text": PROMPT, "params": params})
    most = 0
    while not one.done:
        engine.round([one])
        engine.audit()
        (current,) = searches
        if not one.done:
            assert engine.stats().sequences == len(current.live) + len(current.finished)
            most = max(most, len(current.finished))
    assert most > 2
    assert all_back(engine.core)


def test_nothing_is_counted_twice(toy_engine: ToyEngine) -> None:
    engine = toy_engine(block_size=4)
    params = params_of(engine, ignore_eos=True, allowed_tokens=letters(engine)[:-1])
    usage = run(engine, search, text=PROMPT, params=params).usage
    assert (usage.prompt_computed, usage.prompt_reused) == (13, 0)
    assert usage.generated == 4 * 9
    again = run(engine, search, text=PROMPT, params=params).usage
    assert (again.prompt_computed, again.prompt_reused) == (1, 12)
    assert engine.stats().tokens == 13 + 4 * 8 + 1 + 4 * 8


def test_what_can_never_fit_is_refused_at_once(toy_engine: ToyEngine) -> None:
    """The prompt's three full blocks once, and of each beam the six behind them; one to copy."""
    params = params_of(toy_engine(), beams=5, max_tokens=20)
    engine = toy_engine(block_size=4, num_blocks=3 + 5 * 6)
    with pytest.raises(CapacityError, match=r"5 beams of 33 tokens .* need 34 blocks, but .* 33"):
        run(engine, search, text=PROMPT, params=params)
    assert engine.stats().steps == 0
    assert all_back(engine.core)
    engine = toy_engine(block_size=4, num_blocks=3 + 5 * 6 + 1)
    check(engine, run(engine, search, text=PROMPT, params=params), PROMPT, params)
    assert engine.stats().preemptions == 0


@pytest.mark.parametrize("max_sequences", [256, 5])
def test_more_searches_than_there_are_blocks_for(toy_engine: ToyEngine, max_sequences: int) -> None:
    """Each fits alone; they take turns, and find what they find with room."""

    @ramet.program
    def wide(s: ramet.State, params: Any) -> object:
        s += PROMPT
        branches = s.fork(6)
        for index, branch in enumerate(branches):
            branch += f" {index}"
            branch += ramet.gen("best", **params.to_dict())
        s += ramet.gen("own", max_tokens=20)
        return branches["best"], s["own"]

    engine = toy_engine(block_size=4, num_blocks=30, max_sequences=max_sequences)
    params = params_of(engine, max_tokens=20, ignore_eos=True)
    done = run(engine, wide, params=params)
    assert done.value == run(toy_engine(), wide, params=params).value
    assert max_sequences == 5 or done.usage.preemptions > 0
    for index, text in enumerate(done.value[0]):
        (best, *_) = expected(engine, f"{PROMPT} {index}", params)
        assert text == engine.tokenizer.decode([t for t in best.tokens if t != TOY_EOS])


# -- what goes wrong


@ramet.program
def everything(s: ramet.State, params: Any) -> object:
    s += PROMPT
    branches = s.branch(ramet.gen("x", **params.to_dict()))
    for branch in branches:
        branch += ramet.gen("y", **params.to_dict())
    s += ramet.gen("z", **params.to_dict())
    return branches["y"], s["z"]


@pytest.mark.parametrize("at", range(16))
def test_a_failing_step_gives_everything_back(toy_engine: ToyEngine, at: int) -> None:
    engine = toy_engine(block_size=4)
    params = params_of(engine, beams=3, max_tokens=8, ignore_eos=True)
    toy_model(engine.core).fail_at = {at}
    one = engine.start(everything, {"params": params})
    while not one.done:
        engine.round([one])
        engine.audit()
    assert isinstance(one.error, StepError)
    assert all_back(engine.core)
    again = run(engine, everything, params=params)
    assert again.value == run(toy_engine(), everything, params=params).value


@pytest.mark.parametrize("rounds", range(0, 18, 2))
def test_cancelling_gives_everything_back(toy_engine: ToyEngine, rounds: int) -> None:
    """At any moment; another search of the same steps does not notice."""
    engine = toy_engine(block_size=4)
    params = params_of(engine, beams=3, max_tokens=8, ignore_eos=True)
    one = engine.start(everything, {"params": params})
    other = engine.start(search, {"text": "other", "params": params})
    for _ in range(rounds):
        engine.round([one, other])
    one.abort()
    engine.audit()
    while not other.done:
        engine.round([other])
        engine.audit()
    check(engine, other.result(), "other", params)
    assert all_back(engine.core)


def test_keep_ends_a_search_in_its_middle(toy_engine: ToyEngine) -> None:
    engine = toy_engine(block_size=4)

    @ramet.program
    def kept(s: ramet.State) -> object:
        s += PROMPT
        long, short = s.fork(2)
        long += ramet.gen("x", beams=4, max_tokens=40, ignore_eos=True)
        short += "!" + ramet.gen("y", beams=2, max_tokens=2, ignore_eos=True)
        s.keep(short)
        s += ramet.gen("z", max_tokens=4, ignore_eos=True)
        return s["y"] + s["z"]

    done = run(engine, kept)
    assert engine.stats().steps < 12
    row = tokens_of(engine, PROMPT + "!") + list(info(done, "y").tokens)
    for token in info(done, "z").tokens:
        assert token == int(words(list(zip(row, range(99), strict=False))).argmax())
        row.append(token)


def test_unsound_logits_end_the_search(toy_engine: ToyEngine) -> None:
    engine = toy_engine(block_size=4)
    params = params_of(engine, ignore_eos=True)
    forward = engine.core.model.forward

    def spoilt(*args: Any) -> Tensor:
        logits = forward(*args)
        if toy_model(engine.core).forwards == 4:
            logits[2, 7] = torch.nan
        return logits

    engine.core.model.forward = spoilt  # type: ignore[method-assign]
    with pytest.raises(SamplingError, match="NaN or infinity"):
        run(engine, search, text=PROMPT, params=params)
    assert all_back(engine.core)


def test_every_token_ruled_out(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    params = params_of(engine, allowed_tokens=(TOY_EOS,), min_tokens=2)
    with pytest.raises(SamplingError, match="ruled out"):
        run(engine, search, text=PROMPT, params=params)
    assert all_back(engine.core)


def test_a_listener_that_raises_ends_the_search(toy_engine: ToyEngine) -> None:
    def listener(event: Event) -> None:
        raise OSError("nobody listens")

    engine = toy_engine()
    arguments = {"text": PROMPT, "params": params_of(engine)}
    one = engine.start(search, arguments, on_event=listener)
    while not one.done:
        engine.round([one])
        engine.audit()
    assert isinstance(one.error, OSError)
    assert all_back(engine.core)


def test_an_empty_prompt_is_refused(toy_engine: ToyEngine) -> None:
    engine = toy_engine()

    @ramet.program
    def empty(s: ramet.State) -> None:
        s += ramet.gen("x", beams=2)

    with pytest.raises(ramet.RametError, match="no text to continue"):
        run(engine, empty)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_an_interrupt_gives_everything_back(toy_engine: ToyEngine, at: int) -> None:
    engine = toy_engine(block_size=4)
    forward = engine.core.model.forward

    def interrupted(*args: Any) -> Tensor:
        if toy_model(engine.core).forwards == at:
            raise KeyboardInterrupt
        return forward(*args)

    engine.core.model.forward = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        engine.run(search, text=PROMPT, params=params_of(engine, ignore_eos=True))
    engine.audit()
    engine.core.model.forward = forward  # type: ignore[method-assign]
    params = params_of(engine)
    check(engine, run(engine, search, text=PROMPT, params=params), PROMPT, params)


@ramet.program
def typed(s: ramet.State, text: str, params: Any) -> None:
    """In as many tokens as there are at most."""
    s += text
    s += ramet.gen("best", regex=f"[a-h ]{{1,{params.max_tokens}}}", **params.to_dict())


@pytest.mark.parametrize("seed", range(6))
def test_any_searches_in_any_company(toy_engine: ToyEngine, seed: int) -> None:
    """Random settings and requests, a pool that hardly holds the largest, some cancelled."""
    rng = random.Random(seed)
    settings = {
        "block_size": rng.choice([1, 3, 4]),
        "max_sequences": rng.choice([2, 7, 256]),
        "step_tokens": rng.choice([3, 20, 1024]),
        "sharing": rng.random() < 0.8,
    }
    largest = -(-(20 + 10) // settings["block_size"]) * 6 + 1
    engine, reference = toy_engine(num_blocks=largest, **settings), toy_engine()
    runs = []
    for _ in range(8):
        params = params_of(
            engine,
            beams=rng.randint(1, 6),
            max_tokens=rng.randint(1, 10),
            length_penalty=rng.choice([0.0, 1.0, 2.0]),
            early_stopping=rng.choice([True, False, "never"]),
            stop=rng.choice([(), ("a", "bc")]),
        )
        text = "".join(rng.choices("ab", k=rng.randint(1, 20)))
        arguments = {"text": text, "params": params}
        runs.append(
            rng.choice([(search, arguments), (typed, arguments), (everything, {"params": params})])
        )
    active = [engine.start(program, arguments) for program, arguments in runs]
    cancelled = rng.sample(active, 2)
    rounds = 0
    while not all(one.done for one in active):
        engine.round([one for one in active if not one.done])
        engine.audit()
        rounds += 1
        if rounds in (5, 9):
            cancelled[rounds // 9].abort()
        assert rounds < 3_000
    assert all_back(engine.core)
    for (program, arguments), one in zip(runs, active, strict=True):
        if one.error is None:
            assert one.result().value == run(reference, program, **arguments).value
        else:
            assert one in cancelled

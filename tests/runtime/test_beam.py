"""The algorithm alone: against a search written out plainly, and against all there is."""

import itertools
import math
import random
from functools import cache
from typing import Any, NamedTuple

import pytest

from ramet.params import SamplingParams
from ramet.runtime.beam import BeamSearch, Path
from ramet.runtime.steps.hypotheses import can_rise
from tests.runtime.beams import Logprobs, Scored, Tokens, plainly

PENALTIES = (0.0, 0.5, 1.0, 2.0, -1.0)
EARLY: tuple[Any, ...] = (False, True, "never")


def language(vocab: int, seed: int) -> Logprobs:
    """Log-probabilities after any tokens, far from each other."""

    @cache
    def logprobs(tokens: Tokens) -> list[float]:
        rng = random.Random(f"{seed}{tokens}")
        weights = [math.exp(2 * rng.gauss(0, 1)) for _ in range(vocab)]
        return [math.log(weight / sum(weights)) for weight in weights]

    return logprobs


class Lazily(NamedTuple):
    hypotheses: list[Scored]
    steps: int


def lazily(
    logprobs: Logprobs,
    eos: set[int],
    params: SamplingParams,
    limit: int,
    wanted: int | None = None,
    rises: bool = False,
) -> Lazily:
    """The same from only as many continuations as the search says it needs."""
    search = BeamSearch(
        params.beams,
        limit,
        wanted=wanted,
        length_penalty=params.length_penalty,
        early_stopping=params.early_stopping,
        rises=rises,
    )
    width = params.beams + len(eos)
    certain: dict[int, list[int]] = {}
    while not search.done:
        ways = [
            sorted(enumerate(logprobs(tuple(path.tokens))), key=lambda way: -way[1])[:width]
            for path in search.live
        ]
        search.advance(ways, lambda path: path.token in eos)
        for place in range(wanted or params.beams):
            now, before = search.agreed(place).tokens, certain.get(place, [])
            assert now[: len(before)] == before, "what is certain stays so"
            certain[place] = now
    found = [Scored(tuple(each.path.tokens), each.score) for each in search.finished]
    for place, tokens in certain.items():
        assert tuple(tokens) == (found[place].tokens if place < len(found) else ())
    return Lazily(found, search.length)


@pytest.mark.parametrize("eos", [set(), {0}, {0, 1, 2}], ids=str)
@pytest.mark.parametrize("early", EARLY)
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("beams", [1, 2, 3, 8])
def test_the_same_as_written_out_plainly(
    beams: int, penalty: float, early: Any, eos: set[int]
) -> None:
    params = SamplingParams(beams=beams, length_penalty=penalty, early_stopping=early)
    for seed in range(6):
        words = language(7, seed)
        for limit in (1, 2, 7):
            expected = plainly(words, lambda t: t[-1] in eos, params, limit).hypotheses
            got = lazily(words, eos, params, limit).hypotheses
            assert [each.tokens for each in got] == [each.tokens for each in expected]
            assert [s.score for s in got] == pytest.approx([s.score for s in expected])


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_beam_that_holds_everything_finds_everything_in_order(penalty: float) -> None:
    """Three words, one of which ends: 31 texts of at most four."""
    words, limit = language(3, seed=4), 4
    texts: list[Tokens] = []
    for length in range(1, limit + 1):
        texts += [(*body, 0) for body in itertools.product((1, 2), repeat=length - 1)]
    texts += itertools.product((1, 2), repeat=limit)

    def score(text: Tokens) -> float:
        total = sum(words(text[:at])[token] for at, token in enumerate(text))
        return total / len(text) ** penalty

    params = SamplingParams(beams=40, length_penalty=penalty)
    found = lazily(words, {0}, params, limit).hypotheses
    assert len(found) == len(texts) == 31
    assert [each.tokens for each in found] == sorted(texts, key=score, reverse=True)
    for each in found:
        assert each.score == pytest.approx(score(each.tokens))


# -- the end as soon as nothing can change


@pytest.mark.parametrize("early", EARLY)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_fewer_wanted_are_the_same_in_fewer_steps(penalty: float, early: Any) -> None:
    saved = dict.fromkeys((1, 2, 4), 0)
    for seed, beams, limit in itertools.product(range(30), (4, 8), (3, 12)):
        words = language(7, seed)
        params = SamplingParams(beams=beams, length_penalty=penalty, early_stopping=early)
        plain = plainly(words, lambda t: t[-1] == 0, params, limit)
        for wanted in saved:
            got = lazily(words, {0}, params, limit, wanted)
            assert [each.tokens for each in got.hypotheses[:wanted]] == [
                each.tokens for each in plain.hypotheses[:wanted]
            ]
            assert got.steps <= plain.steps
            saved[wanted] += plain.steps - got.steps
    assert saved[1] >= saved[2] >= saved[4]
    print(saved)
    assert saved[1] > (40 if penalty < 1 else 0)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_bound_is_met(penalty: float) -> None:
    """A beam that could just get above the best goes on; one that could just not does not."""
    length = 5 if penalty > 0 else 2
    for more, done in ((-1e-9, True), (1e-9, False)):
        search = BeamSearch(2, 5, wanted=1, length_penalty=penalty, early_stopping="never")
        ways = [(0, -3.0), (1, -3.0 * length**penalty + more)]
        search.advance([sorted(ways, key=lambda way: -way[1])], lambda path: path.token == 0)
        assert [each.score for each in search.finished] == [-3.0]
        assert search.done == done


def test_where_a_token_can_raise_a_score_no_beam_is_out_of_the_running() -> None:
    """Tokens 1 to 3 are given 1.5 each time."""
    wrong = 0
    for seed in range(60):
        words = language(7, seed)

        def raised(tokens: Tokens) -> list[float]:
            return [
                found + 1.5 * (0 < token < 4)
                for token, found in enumerate(words(tokens))  # noqa: B023
            ]

        params = SamplingParams(beams=4, length_penalty=0.0, early_stopping="never")
        plain = plainly(raised, lambda t: t[-1] == 0, params, 9)
        got = lazily(raised, {0}, params, 9, wanted=1, rises=True)
        assert got.hypotheses[0].tokens == plain.hypotheses[0].tokens
        hasty = lazily_hasty(raised, params)
        wrong += hasty != plain.hypotheses[0].tokens
    assert wrong > 0, "the bound would have been wrong"


def lazily_hasty(logprobs: Logprobs, params: SamplingParams) -> Tokens:
    """What is best when the bound is trusted though tokens can raise a score."""
    search = BeamSearch(params.beams, 9, wanted=1, length_penalty=0.0, early_stopping="never")
    while not search.done:
        ways = [
            sorted(enumerate(logprobs(tuple(path.tokens))), key=lambda way: -way[1])
            for path in search.live
        ]
        search.advance(ways, lambda path: path.token == 0)
    return tuple(search.finished[0].path.tokens)


@pytest.mark.parametrize(
    ("fields", "typed", "rises"),
    [
        ({}, True, False),
        ({"logit_bias": {1: -5.0}, "presence_penalty": 1.0, "frequency_penalty": 1.0}, True, False),
        ({"repetition_penalty": 1.5}, True, False),
        ({"repetition_penalty": 0.5}, False, False),  # what is negative stays so
        ({"repetition_penalty": 0.5}, True, True),  # but not the mass of many
        ({"logit_bias": {1: -5.0, 2: 0.1}}, False, True),
        ({"presence_penalty": -0.1}, False, True),
        ({"frequency_penalty": -0.1}, False, True),
    ],
)
def test_what_can_raise_a_score(fields: dict[str, Any], typed: bool, rises: bool) -> None:
    assert can_rise(SamplingParams(beams=2, **fields), typed) == rises


# -- single rules


def test_what_ends_before_it_is_whole_is_no_hypothesis() -> None:
    search = BeamSearch(2, 2)
    ways = [(0, -0.1), (1, -0.2), (2, -0.3)]
    search.advance([ways], lambda path: path.token == 0, lambda path: False)
    assert (search.finished, len(search.live)) == ([], 2)
    assert search.cut is not None
    assert search.cut.path.tokens == [0]
    search.advance([ways, ways], lambda path: False, lambda path: path.token == 1)
    assert search.done
    assert [each.path.tokens for each in search.finished] == [[1, 1]]
    assert search.cut.score == pytest.approx(-0.1)


def test_an_end_below_the_best_is_dropped() -> None:
    """With two beams the third best continuation ends nothing."""
    search = BeamSearch(2, 5)
    search.advance([[(1, -0.1), (2, -0.2), (0, -0.3), (3, -0.4)]], lambda path: path.token == 0)
    assert [path.token for path in search.live] == [1, 2]
    assert search.finished == []


def test_ends_among_the_best_leave_room_for_the_next() -> None:
    search = BeamSearch(2, 5)
    search.advance([[(0, -0.1), (2, -0.2), (3, -0.3), (4, -0.4)]], lambda path: path.token == 0)
    assert [path.token for path in search.live] == [2, 3]
    assert [each.path.tokens for each in search.finished] == [[0]]


def test_each_path_says_from_which_beam_it_goes_on() -> None:
    search = BeamSearch(2, 5)
    search.advance([[(1, -0.1), (2, -0.2)]], lambda path: False)
    search.advance([[(5, -5.0), (6, -6.0)], [(7, -0.5), (8, -4.0)]], lambda path: False)
    assert [(path.beam, path.tokens) for path in search.live] == [(1, [2, 7]), (1, [2, 8])]
    assert [path.total for path in search.live] == pytest.approx([-0.7, -4.2])


def test_at_the_limit_everything_ends() -> None:
    search = BeamSearch(2, 1)
    search.advance([[(1, -0.1), (2, -0.2), (3, -0.3)]], lambda path: False)
    assert search.done
    assert search.live == []
    assert [each.path.tokens for each in search.finished] == [[1], [2]]


def test_fewer_continuations_than_beams_make_fewer_hypotheses() -> None:
    search = BeamSearch(4, 2)
    while not search.done:
        search.advance([[(1, -0.5)] for _ in search.live], lambda path: False)
    assert [each.path.tokens for each in search.finished] == [[1, 1]]


def test_no_continuation_at_all_ends_a_search_with_nothing() -> None:
    search = BeamSearch(4, 2)
    search.advance([[]], lambda path: False)
    assert search.done
    assert search.finished == []


def one_finished(**options: Any) -> BeamSearch:
    """A search of one beam and eight tokens that has a hypothesis of -1, and goes on at -1.2."""
    search = BeamSearch(1, 8, **options)
    search.advance([[(0, -1.0), (1, -1.2)]], lambda path: path.token == 0)
    return search


def test_when_a_search_with_enough_hypotheses_is_over() -> None:
    assert one_finished(early_stopping=True).done
    assert one_finished(early_stopping=False).done, "at this length it cannot get better"
    assert not one_finished(early_stopping="never").done, "at eight tokens it could get to -0.15"
    assert one_finished(early_stopping="never", length_penalty=0.0).done


def test_only_so_many_continuations_are_looked_at() -> None:
    """What a step costs is in the beams, not in the vocabulary."""
    asked: list[Path] = []

    def ends(path: Path) -> bool:
        asked.append(path)
        return False

    search = BeamSearch(4, 10)
    ways = [(token, -float(token)) for token in range(1000)]
    search.advance([ways], ends)
    search.advance([ways] * 4, ends)
    assert len(asked) == 8

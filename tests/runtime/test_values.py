"""Scores of options from their tokens' log-probabilities, worked out by hand; and the records."""

import math

import pytest

import ramet
from ramet.runtime.choice import option_scores, probabilities
from ramet.runtime.sampling import Draw
from ramet.runtime.sequence import Usage
from ramet.runtime.values import GenInfo, SamplesInfo, ScoreInfo, SelectInfo

SHORT, LONG, EVEN = [-1.0], [-0.5, -2.0, -0.5], [-0.5, -1.5]
NOTHING = [[0.0], [0.0, 0.0, 0.0], [0.0, 0.0]]


def test_the_mean_is_over_the_tokens() -> None:
    assert option_scores("mean_logprob", [SHORT, LONG, EVEN], NOTHING) == [-1.0, -1.0, -1.0]


def test_the_sum_favours_short_options() -> None:
    assert option_scores("sum_logprob", [SHORT, LONG, EVEN], NOTHING) == [-1.0, -3.0, -2.0]


def test_unconditional_is_what_the_context_adds() -> None:
    alone = [[0.0], [0.0, -1.0, -2.5], [0.0, -1.0]]
    scores = option_scores("unconditional", [SHORT, LONG, EVEN], alone)
    assert scores == pytest.approx([-1.0, (-0.5 - 1.0 + 2.0) / 3, (-0.5 - 0.5) / 2])


@pytest.mark.parametrize(
    ("options", "best"),
    [
        ([SHORT, LONG], 1),  # the first token decides
        ([LONG, EVEN], 1),  # the second one does
        ([[-1.0, -9.0], [-2.0, 0.0]], 0),  # whatever comes later
        ([[-1.0], [-1.0, -2.0]], 0),  # a short option goes on with its own mean, -1
        ([[-1.0], [-1.0, -0.5]], 1),
        ([[-1.0, -2.0], [-1.0]], 1),
        ([[-1.0, -1.0], [-1.0, -1.0]], 0),  # the first of equals
    ],
)
def test_greedy_goes_token_by_token(options: list[list[float]], best: int) -> None:
    scores = option_scores("greedy", options, [[0.0] * len(option) for option in options])
    assert scores.index(max(scores)) == best


def test_greedy_lifts_its_choice_to_the_top_and_leaves_the_others() -> None:
    """Just over the best mean, so that what is chosen is also what is likeliest."""
    scores = option_scores("greedy", [[-2.0, 0.0], [-1.0, -9.0]], [[0.0, 0.0]] * 2)
    assert scores == pytest.approx([-1.0, -1.0])
    assert scores[1] > scores[0]


def test_probabilities_are_a_softmax() -> None:
    assert probabilities([0.0, 0.0]) == [0.5, 0.5]
    assert probabilities([math.log(1), math.log(3)]) == pytest.approx([0.25, 0.75])
    assert sum(probabilities([-900.0, 900.0, 899.0])) == pytest.approx(1.0)
    assert probabilities([-1e9, -math.inf]) == [1.0, 0.0]


def gen_info(text: str, *logprobs: float) -> GenInfo:
    draws = tuple(Draw(5, logprob) for logprob in logprobs)
    return GenInfo(text, (5,) * len(draws), "length", None, draws, Usage())


def test_the_probability_of_a_text_is_the_product_over_its_tokens() -> None:
    assert gen_info("ab", math.log(0.5), math.log(0.25)).prob == pytest.approx(0.125)


def test_a_probability_needs_log_probabilities() -> None:
    with pytest.raises(ramet.LanguageError, match=r"gen\(\.\.\., logprobs=0\)"):
        print(gen_info("ab").prob)


def test_the_info_of_samples_is_a_list_of_theirs() -> None:
    info = SamplesInfo((gen_info("a", -1.0), gen_info("b", -2.0)))
    assert info.text == ["a", "b"]
    assert info.finish_reason == ["length", "length"]
    assert info.prob == pytest.approx([math.exp(-1), math.exp(-2)])
    with pytest.raises(AttributeError, match="nonsense"):
        print(info.nonsense)
    with pytest.raises(AttributeError):
        print(info.__wrapped__)


def test_the_probability_of_a_select_is_its_choices() -> None:
    info = SelectInfo("b", {"a": 0.25, "b": 0.75}, {}, {}, {})
    assert info.prob == 0.75


def test_the_entropy_of_a_select_is_that_of_its_probabilities() -> None:
    assert SelectInfo("a", {"a": 1.0, "b": 0.0}, {}, {}, {}).entropy == 0
    assert SelectInfo("a", {"a": 0.5, "b": 0.5}, {}, {}, {}).entropy == pytest.approx(math.log(2))


def test_the_value_of_a_score_is_the_sum_over_its_tokens() -> None:
    info = ScoreInfo("ab", (5, 6), (math.log(0.5), math.log(0.25)))
    assert (info.value, info.text) == (pytest.approx(math.log(0.125)), str(info.value))
    assert (info.mean, info.prob) == (pytest.approx(math.log(0.125) / 2), pytest.approx(0.125))


def test_usage_is_added_field_by_field() -> None:
    total = Usage(1, 2, 3, 4, 5)
    total.add(Usage(10, 20, 30, 40, 50))
    assert total == Usage(11, 22, 33, 44, 55)

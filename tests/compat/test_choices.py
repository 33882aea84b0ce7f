"""The three ways to choose, on numbers worked out by hand."""

import pytest

from ramet.compat.sglang.lang.choices import (
    ChoicesSamplingMethod,
    greedy_token_selection,
    token_length_normalized,
    unconditional_likelihood_normalized,
)

# Two tokens and three: means -0.55 and -0.5, sums -1.1 and -1.5; the first token parts them.
SHORT = [[-0.1, 1, "a"], [-1.0, 2, "b"]]
LONG = [[-0.5, 3, "c"], [-0.5, 4, "d"], [-0.5, 5, "e"]]


def decide(method: ChoicesSamplingMethod, alone: list[list[list[object]]] | None = None) -> object:
    inputs = [SHORT, LONG]
    return method(
        choices=["short", "long"],
        normalized_prompt_logprobs=[-0.55, -0.5],
        input_token_logprobs=inputs,
        output_token_logprobs=[[], []],
        unconditional_token_logprobs=alone,
    )


def test_the_best_mean_wins() -> None:
    decision = decide(token_length_normalized)
    assert decision.decision == "long"  # type: ignore[attr-defined]
    assert set(decision.meta_info) == {  # type: ignore[attr-defined]
        "normalized_prompt_logprobs",
        "input_token_logprobs",
        "output_token_logprobs",
    }


def test_greedy_goes_token_by_token() -> None:
    decision = decide(greedy_token_selection)
    assert decision.decision == "short"  # type: ignore[attr-defined]
    matrix = decision.meta_info["greedy_logprob_matrix"]  # type: ignore[attr-defined]
    assert matrix == [[-0.1, -1.0, pytest.approx(-0.55)], [-0.5, -0.5, -0.5]]


def test_unconditional_takes_the_greatest_gain() -> None:
    alone = [[[None, 1, "a"], [-3.0, 2, "b"]], [[None, 3, "c"], [-0.5, 4, "d"], [-0.5, 5, "e"]]]
    decision = decide(unconditional_likelihood_normalized, alone)
    assert decision.decision == "short"  # type: ignore[attr-defined]
    gains = decision.meta_info["normalized_unconditional_prompt_logprobs"]  # type: ignore[attr-defined]
    assert gains == [pytest.approx(0.95), pytest.approx(-0.5 / 3)]
    assert unconditional_likelihood_normalized.requires_unconditional_logprobs
    with pytest.raises(ValueError, match="unconditional"):
        decide(unconditional_likelihood_normalized)

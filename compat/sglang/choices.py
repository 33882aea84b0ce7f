"""How a `select` decides, from the log-probabilities of each option's tokens. Numbers only."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ChoicesDecision",
    "ChoicesSamplingMethod",
    "GreedyTokenSelection",
    "TokenLengthNormalized",
    "UnconditionalLikelihoodNormalized",
    "greedy_token_selection",
    "token_length_normalized",
    "unconditional_likelihood_normalized",
]

TokenLogprobs = Sequence[Sequence[Any]]  # for each token (log-probability, id, text)


@dataclass
class ChoicesDecision:
    """The option that was chosen, and what `get_meta_info` says about it."""

    decision: str
    meta_info: dict[str, Any] | None = None


class ChoicesSamplingMethod(ABC):
    """Called with keywords; lists are in the order of the options."""

    @property
    def requires_unconditional_logprobs(self) -> bool:
        """Whether the options are to be scored without the context, too."""
        return False

    @abstractmethod
    def __call__(
        self,
        *,
        choices: Sequence[str],
        normalized_prompt_logprobs: Sequence[float],
        input_token_logprobs: Sequence[TokenLogprobs],
        output_token_logprobs: Sequence[TokenLogprobs],
        unconditional_token_logprobs: Sequence[TokenLogprobs] | None = None,
    ) -> ChoicesDecision: ...


class TokenLengthNormalized(ChoicesSamplingMethod):
    """The best mean log-probability."""

    def __call__(
        self,
        *,
        choices: Sequence[str],
        normalized_prompt_logprobs: Sequence[float],
        input_token_logprobs: Sequence[TokenLogprobs],
        output_token_logprobs: Sequence[TokenLogprobs],
        unconditional_token_logprobs: Sequence[TokenLogprobs] | None = None,
    ) -> ChoicesDecision:
        meta = {
            "normalized_prompt_logprobs": normalized_prompt_logprobs,
            "input_token_logprobs": input_token_logprobs,
            "output_token_logprobs": output_token_logprobs,
        }
        return ChoicesDecision(choices[_argmax(normalized_prompt_logprobs)], meta)


class GreedyTokenSelection(ChoicesSamplingMethod):
    """Token by token, keep the options that are best so far; a short one goes on with its mean."""

    def __call__(
        self,
        *,
        choices: Sequence[str],
        normalized_prompt_logprobs: Sequence[float],
        input_token_logprobs: Sequence[TokenLogprobs],
        output_token_logprobs: Sequence[TokenLogprobs],
        unconditional_token_logprobs: Sequence[TokenLogprobs] | None = None,
    ) -> ChoicesDecision:
        longest = max(map(len, input_token_logprobs))
        matrix = [
            [*_logprobs(tokens), *[_mean(_logprobs(tokens))] * (longest - len(tokens))]
            for tokens in input_token_logprobs
        ]
        left = list(range(len(choices)))
        for at in range(longest):
            best = max(matrix[index][at] for index in left)
            left = [index for index in left if matrix[index][at] == best]
        meta = {
            "normalized_prompt_logprobs": normalized_prompt_logprobs,
            "input_token_logprobs": input_token_logprobs,
            "output_token_logprobs": output_token_logprobs,
            "greedy_logprob_matrix": matrix,
        }
        return ChoicesDecision(choices[left[0]], meta)


class UnconditionalLikelihoodNormalized(ChoicesSamplingMethod):
    """The best mean of what each token gains over its log-probability without the context."""

    @property
    def requires_unconditional_logprobs(self) -> bool:
        return True

    def __call__(
        self,
        *,
        choices: Sequence[str],
        normalized_prompt_logprobs: Sequence[float],
        input_token_logprobs: Sequence[TokenLogprobs],
        output_token_logprobs: Sequence[TokenLogprobs],
        unconditional_token_logprobs: Sequence[TokenLogprobs] | None = None,
    ) -> ChoicesDecision:
        if unconditional_token_logprobs is None:
            raise ValueError("this method needs the options' unconditional log-probabilities")
        gains = [
            _mean([given - alone for given, alone in zip(with_it, without, strict=True)])
            for with_it, without in zip(
                map(_logprobs, input_token_logprobs),
                map(_logprobs, unconditional_token_logprobs),
                strict=True,
            )
        ]
        meta = {
            "normalized_prompt_logprobs": normalized_prompt_logprobs,
            "input_token_logprobs": input_token_logprobs,
            "output_token_logprobs": output_token_logprobs,
            "unconditional_token_logprobs": unconditional_token_logprobs,
            "normalized_unconditional_prompt_logprobs": gains,
        }
        return ChoicesDecision(choices[_argmax(gains)], meta)


token_length_normalized = TokenLengthNormalized()
greedy_token_selection = GreedyTokenSelection()
unconditional_likelihood_normalized = UnconditionalLikelihoodNormalized()


def _logprobs(tokens: TokenLogprobs) -> list[float]:
    """A first token has no log-probability without a context; it counts as 0."""
    return [0.0 if token[0] is None else token[0] for token in tokens]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _argmax(numbers: Sequence[float]) -> int:
    return max(range(len(numbers)), key=numbers.__getitem__)

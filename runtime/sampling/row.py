"""What belongs to one sequence when its next token is drawn.

Packed anew at each step, never kept by batch position. Knows no logits and no other row.
"""

from collections.abc import Collection, Iterable, Sequence
from copy import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ramet.params import SamplingParams
from ramet.runtime.errors import RequestError
from ramet.runtime.grammar import Grammar
from ramet.runtime.sampling.healing import Healing

# Below this a temperature would overflow float32; it is read as 0, as vLLM does.
GREEDY_BELOW = 1e-5


class SamplingRow:
    """The sampling state of one sequence: its parameters, its key, and what it has drawn.

    `attempt` counts the draws of the next token, and the row is `wary` if the last one took two.
    `prompt` counts for the repetition penalty. Within a `grammar` the text ends where that says so:
    `min_tokens` and `ignore_eos` hold as long as it can go on. While there is a `healing`, tokens
    spell what it took back. Raises `RequestError` when a biased
    or allowed token is not in the vocabulary.
    """

    __slots__ = (
        "_allowed",
        "_counted",
        "_plain",
        "_triable",
        "attempt",
        "bias",
        "bias_ids",
        "drawn",
        "ends",
        "grammar",
        "healing",
        "key",
        "params",
        "tally",
        "wary",
    )

    def __init__(
        self,
        params: SamplingParams,
        *,
        key: int,
        vocab_size: int,
        prompt: Sequence[int] = (),
        eos_ids: Collection[int] = (),
        grammar: Grammar | None = None,
        healing: Healing | None = None,
    ) -> None:
        bias = dict(params.logit_bias)
        _check_ids("logit_bias", bias, vocab_size)
        _check_ids("allowed_tokens", params.allowed_tokens or (), vocab_size)
        self.params = params
        self.key = key
        self.grammar = grammar
        self.healing = healing
        self.drawn = 0
        self.attempt = 0
        self.wary = False
        self.bias_ids = _ids(bias)
        self.bias = np.fromiter(bias.values(), np.float32, len(bias))
        self._allowed = None if params.allowed_tokens is None else _ids(params.allowed_tokens)
        ends = {*eos_ids, *params.stop_tokens} if params.min_tokens else set()
        self.ends = _ids(sorted(token for token in ends if token < vocab_size))
        self.tally = Tally(prompt if self.repeats else ())
        self._counted = self.repeats or self.penalises
        narrowed = params.top_k > 0 or params.top_p < 1 or params.min_p > 0
        self._triable = params.beams == 1 and params.logprobs is None and self._allowed is None
        self._triable &= self.greedy or not narrowed
        self._plain = self.greedy and not (
            bias or params.allowed_tokens or self._counted or grammar is not None
        )

    def accept(self, token: int) -> None:
        """The token was drawn and belongs to the sequence now."""
        self.drawn += 1
        self.wary, self.attempt = self.attempt > 0, 0
        if self.healing is not None:
            self.healing = self.healing.after(token)
        if self._counted:
            self.tally.add(token)

    def fork(self, key: int) -> Self:
        """A row of its own with the same past, for a branch with this key."""
        other = copy(self)
        other.key = key
        other.tally = self.tally.copy() if self._counted else self.tally
        other.grammar = None if self.grammar is None else self.grammar.copy()
        return other

    @property
    def greedy(self) -> bool:
        return self.params.temperature < GREEDY_BELOW

    @property
    def plain(self) -> bool:
        """Whether the next token is just the likeliest one."""
        return self._plain and not self.too_short and self.healing is None

    @property
    def allowed(self) -> NDArray[np.int64] | None:
        """The tokens of which the next is one; None where it is any."""
        if self.healing is None:
            return self._allowed
        if self._allowed is None:
            return self.healing.tokens
        return np.intersect1d(self._allowed, self.healing.tokens)

    @property
    def tries(self) -> bool:
        """Whether the next token is drawn before it is known what the grammar allows, and drawn
        again if it `strays`. That is the same distribution, and greedily the same token, as long as
        the text cannot end and nothing depends on how likely the allowed tokens are.
        """
        grammar = self.grammar
        if grammar is None or self.attempt or not self._triable or self.healing is not None:
            return False
        return not grammar.can_end

    def strays(self, token: int) -> bool:
        """Whether this token, just drawn, is one to draw again: it was tried and is not allowed."""
        if self.grammar is None or not self.tries or self.grammar.allows(token):
            return False
        self.attempt = 1
        return True

    @property
    def too_short(self) -> bool:
        """Whether the sequence may not end yet; a grammar sees to that itself. What heals a text
        ends none, and may be needed for it."""
        if self.grammar is not None or self.healing is not None:
            return False
        return self.drawn < self.params.min_tokens and self.ends.size > 0

    @property
    def goes_on(self) -> bool:
        """Whether a text that can end within its grammar does not yet."""
        return self.params.ignore_eos or self.drawn < self.params.min_tokens

    @property
    def repeats(self) -> bool:
        return self.params.repetition_penalty != 1

    @property
    def penalises(self) -> bool:
        return self.params.presence_penalty != 0 or self.params.frequency_penalty != 0


class Tally:
    """The distinct tokens of a sequence, and how often each was drawn.

    Two growing arrays, so that a step concatenates views and walks no dictionary.
    """

    __slots__ = ("_counts", "_ids", "_slots")

    def __init__(self, prompt: Sequence[int]) -> None:
        self._slots = {token: slot for slot, token in enumerate(dict.fromkeys(prompt))}
        self._ids = _ids(self._slots)
        self._counts = np.zeros(len(self._ids), np.int64)

    def add(self, token: int) -> None:
        slot = self._slots.setdefault(token, len(self._slots))
        if slot == len(self._ids):
            grown = max(16, slot)
            self._ids = np.concatenate([self._ids, np.zeros(grown, np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(grown, np.int64)])
        self._ids[slot] = token
        self._counts[slot] += 1

    @property
    def ids(self) -> NDArray[np.int64]:
        """Every distinct token of prompt and output [N]."""
        return self._ids[: len(self._slots)]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each of `ids` was drawn [N]; 0 for one that only the prompt has."""
        return self._counts[: len(self._slots)]

    def copy(self) -> "Tally":
        other = copy(self)
        other._slots = dict(self._slots)
        other._ids = self._ids.copy()
        other._counts = self._counts.copy()
        return other


def _ids(tokens: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(tokens, np.int64)


def _check_ids(name: str, tokens: Iterable[int], vocab_size: int) -> None:
    for token in tokens:
        if token >= vocab_size:
            raise RequestError(
                f"{name}: token {token} is not in the vocabulary, which has {vocab_size} tokens"
            )

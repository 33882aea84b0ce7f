"""What a beam search keeps of each hypothesis besides its log-probability.

Knows engine sequences, stops and grammars of one hypothesis each; no search and no program.
"""

from dataclasses import dataclass
from typing import Self

from ramet.params import SamplingParams
from ramet.runtime.detokenizer import Detokenizer
from ramet.runtime.grammar import Grammar
from ramet.runtime.sampling import Draw, SamplingRow
from ramet.runtime.sequence import Expansion, Sequence
from ramet.runtime.stop import StopChecker
from ramet.runtime.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """How far a hypothesis has been read: what may begin a stop, and where its grammar is.

    It never changes, so hypotheses that part share it.
    """

    stops: tuple[Detokenizer, StopChecker] | None  # None where no text stops one
    grammar: Grammar | None
    over: bool = False  # by a stop, or since the grammar can only end

    @classmethod
    def begin(
        cls,
        tokenizer: Tokenizer,
        params: SamplingParams,
        context: list[int],
        grammar: Grammar | None,
    ) -> Self | None:
        """Before the first token; None where tokens alone end a hypothesis."""
        reads = bool(params.stop or params.stop_regex)
        if not reads and grammar is None:
            return None
        stops = (Detokenizer(tokenizer, context), StopChecker(params)) if reads else None
        return cls(stops, grammar)

    def after(self, token: int, length: int) -> Self:
        """With one token more, the hypothesis's `length`th.

        Raises:
            ConstraintError: no text of the grammar goes on with it.
            GenerationError: a stop pattern takes too long.
        """
        stops, grammar, over = self.stops, self.grammar, False
        if grammar is not None:
            grammar = grammar.copy()
            grammar.accept(token)
            over = grammar.finished
        if stops is not None:
            detokenizer, checker = stops[0].copy(), stops[1].copy()
            over |= checker.push(detokenizer.push(token), length).stopped
            stops = detokenizer, checker
        return self.__class__(stops, grammar, over)


@dataclass(frozen=True, eq=False, slots=True)
class Draws:
    """What is known of the tokens of a hypothesis, the last one first: those that part share it."""

    last: Draw
    before: "Draws | None"

    def listed(self) -> tuple[Draw, ...]:
        """From the first to the last."""
        found: list[Draw] = []
        draws: Draws | None = self
        while draws is not None:
            found.append(draws.last)
            draws = draws.before
        return tuple(found[::-1])


@dataclass(eq=False, slots=True)
class Beam:
    """A hypothesis in the engine, live or ended."""

    sequence: Sequence
    row: SamplingRow
    reading: Reading | None = None
    draws: Draws | None = None  # where log-probabilities are asked for
    after: Expansion | None = None

    def fork(self, sequence: Sequence) -> "Beam":
        """One with the same past, on a fork of the sequence."""
        return Beam(sequence, self.row.fork(self.row.key), self.reading, self.draws, self.after)


def can_rise(params: SamplingParams, typed: bool) -> bool:
    """Whether a token can add to the log-probability of a hypothesis. What is added to logits can;
    in a grammar also a repetition penalty under 1, with which what is ruled out may have a mass
    over 1."""
    return (
        any(bias > 0 for bias in dict(params.logit_bias).values())
        or min(params.presence_penalty, params.frequency_penalty) < 0
        or (typed and params.repetition_penalty < 1)
    )

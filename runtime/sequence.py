"""A sequence of tokens with its blocks, and the tasks that run on it. No tensors, no text.

A sequence is a context: it outlives the tasks that extend or score it, can be forked, and between
tasks is *idle*. Idle blocks are kept as long as nobody needs the room; they can always be computed
again from the tokens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ramet.cache import BlockTable
from ramet.errors import RametError
from ramet.runtime.errors import SamplingError
from ramet.runtime.sampling import Continuations, Draw, SamplingRow
from ramet.runtime.text import TextStream
from ramet.runtime.trie import Trie

Top = tuple[tuple[int, float], ...]
"""Tokens and their log-probabilities, the likeliest first."""

_NO_SCORE = "the model gave no score: its logits hold NaN or infinity"


@dataclass(slots=True)
class Usage:
    """What was computed and what was not."""

    prompt_computed: int = 0  # prompt tokens run through the model, again after a preemption too
    prompt_reused: int = 0  # prompt tokens whose keys and values were there already
    generated: int = 0
    forced: int = 0  # of those generated, the ones that a grammar left no choice for
    copied_blocks: int = 0  # copies on write
    preemptions: int = 0

    def add(self, other: "Usage") -> None:
        self.prompt_computed += other.prompt_computed
        self.prompt_reused += other.prompt_reused
        self.generated += other.generated
        self.forced += other.forced
        self.copied_blocks += other.copied_blocks
        self.preemptions += other.preemptions


@dataclass(eq=False, slots=True)
class Sequence:
    """Tokens, and the blocks that hold the keys and values of the first `table.length` of them."""

    tokens: list[int]
    table: BlockTable
    task: "Task | None" = None
    closed: bool = False

    @property
    def idle(self) -> bool:
        return self.task is None


@dataclass(eq=False, slots=True, kw_only=True)
class Task:
    """Work on one sequence: run its tokens up to `end`; logits are wanted from `wanted` on.

    `cursor` is the next token to run. It starts behind what is cached, but never past `wanted`: a
    token whose logits are wanted is run again even if its keys and values are there, and writes
    nothing then.
    """

    id: int  # order of arrival, and so of precedence
    sequence: Sequence
    on_done: Callable[["Task"], None]
    cursor: int = 0
    counted: int = 0  # tokens that `usage` has seen, computed or reused
    done: bool = False
    error: RametError | None = None
    usage: Usage = field(default_factory=Usage)
    prompt: int = 0  # tokens the sequence had when the task arrived
    entered: float = 0.0  # when it was first let in, by time.monotonic()

    @property
    def end(self) -> int:
        """Tokens to run before the task can go on."""
        raise NotImplementedError

    @property
    def wanted(self) -> int:
        """First token whose logits are wanted."""
        raise NotImplementedError

    @property
    def behind(self) -> int:
        """Tokens to run behind the sequence's own, all in one step; nothing of them stays."""
        return 0


@dataclass(eq=False, slots=True, kw_only=True)
class Generation(Task):
    """Draw tokens until something says stop."""

    row: SamplingRow
    text: TextStream
    eos: frozenset[int]
    limit: int  # most tokens to generate: max_tokens, or what the context leaves
    on_text: Callable[[str], None] | None = None
    on_token: Callable[[], None] | None = None
    drawn: list[int] = field(default_factory=list)
    untold: int | None = None  # the last token drawn, until its text is told
    draws: list[Draw] = field(default_factory=list)  # only where log-probabilities are asked for
    kept: int = 0  # drawn tokens that belong to the sequence afterwards
    finish_reason: str = ""  # "eos", "stop", "grammar" or "length" when done
    complete: bool = True  # whether what was kept obeys the row's grammar, when done

    @property
    def end(self) -> int:
        return len(self.sequence.tokens)

    @property
    def wanted(self) -> int:
        return len(self.sequence.tokens) - 1

    def accept(self, draw: Draw, *, late: bool = False) -> bool:
        """Take the next token, and those that its grammar forces; True when that was the last.

        With `late`, what only its text can end is left for `tell`, which has to come before the
        next token is taken.
        """
        if late and self._ends_by_text_alone(draw.token):
            self._append(draw)
            self.sequence.tokens.append(draw.token)
            self.untold = draw.token
            return False
        return self._take(draw) or self.go_on()

    def tell(self) -> bool:
        """Tell the text of the token that was taken late; True when that ends the text."""
        assert self.untold is not None, "there is a token to tell"
        if self.on_token is not None:
            self.on_token()
        token, self.untold = self.untold, None
        return self._show(token)

    def drop_untold(self) -> None:
        """Undo what was taken late: nobody will be told of it."""
        if self.untold is not None:
            self.untold = None
            self.drawn.pop()
            del self.draws[len(self.drawn) :]

    def go_on(self) -> bool:
        """Take the tokens that the grammar forces here; True when one of them was the last.

        They are run together with the next one that is drawn. With log-probabilities asked for, or
        tokens ruled out, each is drawn like any other.
        """
        grammar, params = self.row.grammar, self.row.params
        if grammar is None:
            return False
        if params.logprobs is None and params.allowed_tokens is None:
            while (token := grammar.forced()) is not None:
                self.usage.forced += 1
                if self._take(Draw(token)):
                    return True
                if self.done:  # by whoever was told of the text
                    return False
        if self.row.wary or not self.row.tries:
            grammar.look_ahead()
        return False

    def ends_here(self) -> bool:
        """Whether it turns out, now that a token would be drawn, that the text can only end."""
        grammar = self.row.grammar
        if grammar is None or self.row.tries or not grammar.finished:
            return False
        return self._finish("grammar", len(self.drawn))

    def _take(self, draw: Draw) -> bool:
        """Take one token; True when it was the last."""
        params = self.row.params
        grammar = self.row.grammar
        if self.on_token is not None:
            self.on_token()
        self._append(draw)
        long_enough = len(self.drawn) > params.min_tokens
        if long_enough and draw.token in self.eos and not params.ignore_eos:
            return self._finish("eos", len(self.drawn) - 1)
        if long_enough and draw.token in params.stop_tokens and not self.text.heals(draw.token):
            return self._finish("stop", len(self.drawn) - 1)
        self.sequence.tokens.append(draw.token)
        if grammar is not None:
            grammar.accept(draw.token)
        if self._show(draw.token):
            return True
        if grammar is not None and grammar.over:
            return self._finish("grammar", len(self.drawn))
        if len(self.drawn) >= self.limit:
            finished = grammar is not None and grammar.finished
            return self._finish("grammar" if finished else "length", len(self.drawn))
        return False

    def _append(self, draw: Draw) -> None:
        self.row.accept(draw.token)
        self.drawn.append(draw.token)
        if self.row.params.logprobs is not None:
            self.draws.append(draw)

    def _show(self, token: int) -> bool:
        """Tell the text that the token lets go; True when that ends it."""
        released = self.text.push(token)
        if released and self.on_text is not None:
            self.on_text(released)
        return self.text.stopped and self._finish("stop", self.text.kept_tokens)

    def _ends_by_text_alone(self, token: int) -> bool:
        """Whether nothing but a stop in its text could end the text with this token."""
        return (
            self.row.grammar is None
            and not self.text.healing
            and token not in self.eos
            and token not in self.row.params.stop_tokens
            and len(self.drawn) + 1 < self.limit
        )

    def _finish(self, reason: str, kept: int) -> bool:
        self.finish_reason = reason
        self.kept = kept
        rest = self.text.finish()
        if rest and self.on_text is not None:
            self.on_text(rest)
        if self.text.stopped:
            self.finish_reason = "stop"
            self.kept = self.text.kept_tokens
        else:
            self.kept = self.text.kept(kept)
        grammar = self.row.grammar
        if grammar is not None:
            cut = self.text.stopped
            self.complete = grammar.matches(self.text.text) if cut else grammar.can_end
        return True


@dataclass(eq=False, slots=True, kw_only=True)
class Scoring(Task):
    """Log-probabilities of the sequence's own tokens from `start` on; none: only compute it."""

    start: int
    top: int = 0  # how many of the likeliest tokens are told in each place
    logprobs: list[float] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)  # of each place, where they are asked for

    def accept(self, first: int, logprobs: list[float], tops: list[Top]) -> None:
        """Take the scores of the tokens from `first` on; after a preemption some come again."""
        if any(map(math.isnan, logprobs)):
            raise SamplingError(_NO_SCORE)
        self.logprobs[first - self.start :] = logprobs
        self.tops[first - self.start :] = tops

    @property
    def end(self) -> int:
        """The last token is only predicted, not run, unless nothing is predicted."""
        tokens = len(self.sequence.tokens)
        return tokens if self.start >= tokens else tokens - 1

    @property
    def wanted(self) -> int:
        return self.start - 1 if self.start < len(self.sequence.tokens) else self.end


@dataclass(eq=False, slots=True, kw_only=True)
class TrieScoring(Task):
    """Log-probabilities of a trie's edges behind the sequence, which gets no longer by it.

    Behind an empty sequence, the edges that follow the context have log-probability 0.
    """

    trie: Trie
    logprobs: list[float] = field(default_factory=list)  # of each edge

    def edges(self, start: int, stop: int) -> tuple[list[int], list[int], list[int]]:
        """Edges that follow the tokens `start … stop` of the sequence and the rows behind it:
        their numbers, the tokens that they follow, counted from `start`, and their own tokens."""
        first = start - len(self.sequence.tokens)
        after = range(first, stop - len(self.sequence.tokens))
        found = [
            (edge, row - first, token)
            for (row, token), edge in self.trie.edges.items()
            if row in after
        ]
        numbers, rows, tokens = map(list, zip(*found, strict=True)) if found else ([], [], [])
        return numbers, rows, tokens

    def accept(self, edges: list[int], logprobs: list[float]) -> None:
        """Take the scores of these edges; after a preemption some come again."""
        if any(map(math.isnan, logprobs)):
            raise SamplingError(_NO_SCORE)
        for edge, logprob in zip(edges, logprobs, strict=True):
            self.logprobs[edge] = logprob

    @property
    def end(self) -> int:
        return len(self.sequence.tokens) + self.behind

    @property
    def wanted(self) -> int:
        return max(0, len(self.sequence.tokens) - 1)

    @property
    def behind(self) -> int:
        return len(self.trie.rows)


@dataclass(eq=False, slots=True, kw_only=True)
class Expansion(Task):
    """Find the likeliest next tokens of a sequence; it is for others to append one."""

    row: SamplingRow
    width: int
    found: Continuations | None = None

    @property
    def end(self) -> int:
        return len(self.sequence.tokens)

    @property
    def wanted(self) -> int:
        return len(self.sequence.tokens) - 1

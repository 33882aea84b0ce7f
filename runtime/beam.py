"""Beam search as bookkeeping: which hypotheses go on, which ended, and when the search is over.

Knows log-probabilities and token ids; no tensor, no sequence, no text. The rules are those of
`transformers.generate(num_beams=…)`, version 5:

* Of all continuations of the live beams, those that end among the `beams` best are finished; the
  best `beams` that do not end go on. One that ends further down is dropped.
* A finished hypothesis scores its log-probability over its length to the `length_penalty`, the
  token that ends it included. The `beams` best of them are kept.
* With `beams` finished, the search is over: at once if `early_stopping` is True, else when the best
  live beam cannot get above the worst of them. What a beam can still get is estimated from its
  log-probability and its present length, or, if that is "never" and the penalty over 0, the limit.
* At the limit all continuations end.

Two things differ, and neither changes the result where transformers has one. What has probability
zero, or ends before it is whole, is no hypothesis, so there can be fewer than `beams`. And the
search is over as soon as no live beam can get among the `wanted` best, whatever follows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from operator import attrgetter
from typing import Literal

Continuation = tuple[int, float]
"""A token and its log-probability."""


@dataclass(frozen=True, eq=False, slots=True)
class Path:
    """A token after what another path holds; the root holds none."""

    before: "Path | None"
    beam: int  # which of the beams that were live before it goes on from
    token: int
    total: float  # log-probability of all its tokens
    length: int

    @property
    def tokens(self) -> list[int]:
        return self.since(None)

    def since(self, other: "Path | None") -> list[int]:
        """The tokens behind another path that this one begins with; all of them for None."""
        found: list[int] = []
        path = self
        while path is not other and path.before is not None:
            found.append(path.token)
            path = path.before
        return found[::-1]


@dataclass(frozen=True, eq=False, slots=True)
class Hypothesis:
    """A path that ended, and its score."""

    path: Path
    score: float


class BeamSearch:
    """One search; call `advance` with the continuations of the `live` beams until it is `done`.

    Args:
        beams: the width.
        limit: most tokens of a hypothesis.
        wanted: how many of the best hypotheses matter; all `beams` where it is None.
        rises: whether a token can raise a hypothesis's log-probability, as a bias can. Then no
            live beam is ever out of the running.
    """

    def __init__(
        self,
        beams: int,
        limit: int,
        *,
        wanted: int | None = None,
        length_penalty: float = 1.0,
        early_stopping: bool | Literal["never"] = False,
        rises: bool = False,
    ) -> None:
        self.beams = beams
        self.limit = limit
        self.length = 0  # of every live beam
        self.root = Path(None, 0, -1, 0.0, 0)
        self.live = [self.root]  # best first
        self.finished: list[Hypothesis] = []  # best first
        self.cut: Hypothesis | None = None  # the best of those that ended before they were whole
        self._wanted = beams if wanted is None else wanted
        self._penalty = length_penalty
        self._early = early_stopping
        self._rises = rises

    def advance(
        self,
        continuations: Sequence[Iterable[Continuation]],
        ends: Callable[[Path], bool],
        whole: Callable[[Path], bool] = lambda path: True,
    ) -> None:
        """One token more.

        Args:
            continuations: for each live beam, in their order, its likeliest next tokens, best
                first. As many as there are beams and tokens that end are always enough.
            ends: whether a path ends here; asked for each candidate that counts, best first.
            whole: whether a path that ends here is a hypothesis.
        """
        self.length += 1
        last = self.length == self.limit
        live: list[Path] = []
        ended: list[Hypothesis] = []
        for rank, path in enumerate(self._ranked(continuations)):
            if rank >= self.beams and (last or len(live) == self.beams):
                break
            if ends(path) or last:
                if rank < self.beams:
                    ended.append(Hypothesis(path, self._score(path.total, self.length)))
            elif len(live) < self.beams:
                live.append(path)
        self.live = live
        for each in ended:
            if whole(each.path):
                self.finished.append(each)
            elif self.cut is None or each.score > self.cut.score:
                self.cut = each
        self.finished.sort(key=attrgetter("score"), reverse=True)
        del self.finished[self.beams :]

    @property
    def done(self) -> bool:
        """Whether no live beam is left, or none can get among the finished ones."""
        if not self.live or self._settled(self._wanted - 1):
            return True
        if len(self.finished) < self.beams:
            return False
        if self._early is True:
            return True
        longest = self._early == "never" and self._penalty > 0
        best = self._score(self.live[0].total, self.limit if longest else self.length)
        return best <= self.finished[-1].score

    def agreed(self, place: int) -> Path:
        """The longest path with which the hypothesis that will have this place certainly begins;
        the root where it is not certain that there will be one."""
        ended = [each.path for each in self.finished[: place + 1]]
        if len(ended) > place and (self.done or self._settled(place)):
            return ended[-1]
        if len(ended) > place or (place == 0 and self.live):
            return _shared([*self.live, *ended])
        return self.root

    def _settled(self, place: int) -> bool:
        """Whether no live beam can get to this place or above it, whatever follows."""
        if self._rises or place >= len(self.finished):
            return False
        length = self.limit if self._penalty > 0 else self.length + 1
        return self._score(self.live[0].total, length) <= self.finished[place].score

    def _ranked(self, continuations: Sequence[Iterable[Continuation]]) -> Iterator[Path]:
        """All candidates, best first, made as they are asked for."""
        beams = zip(self.live, continuations, strict=True)
        paths = (self._paths(beam, index, each) for index, (beam, each) in enumerate(beams))
        return merge(*paths, key=attrgetter("total"), reverse=True)

    def _paths(self, beam: Path, index: int, each: Iterable[Continuation]) -> Iterator[Path]:
        for token, logprob in each:
            yield Path(beam, index, token, beam.total + logprob, self.length)

    def _score(self, total: float, length: int) -> float:
        return total / length**self._penalty


def _shared(paths: Iterable[Path]) -> Path:
    """The longest path that all of them begin with."""
    left = set(paths)
    while len(left) > 1:
        longest = max(path.length for path in left)
        left = {(path.before or path) if path.length == longest else path for path in left}
    return left.pop()

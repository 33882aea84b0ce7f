"""Continuations of one context as a token trie, so that each distinct token is run once.

Knows token ids alone. A continuation's last token is predicted and not run: the *rows* of a trie
are the inner tokens, those that some token comes after.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

CONTEXT = -1
"""In place of a row: the last token of the context."""


@dataclass(eq=False, slots=True)
class Trie:
    """Some continuations. What is predicted is an *edge*: a token, and the row that it follows."""

    rows: list[int] = field(default_factory=list)  # their tokens; parents before children
    parents: list[int] = field(default_factory=list)  # the row before each, or CONTEXT
    edges: dict[tuple[int, int], int] = field(default_factory=dict)  # (row, token): its number
    paths: dict[int, list[int]] = field(default_factory=dict)  # the edges of each continuation
    _row_of: dict[int, int] = field(default_factory=dict)  # the row of an edge that has one

    def add(self, number: int, tokens: Sequence[int]) -> None:
        """Continuation `number`, of at least one token."""
        path, row = [], CONTEXT
        for token in tokens:
            if path:
                row = self._row(path[-1], row, tokens[len(path) - 1])
            path.append(self.edges.setdefault((row, token), len(self.edges)))
        self.paths[number] = path

    def missing(self, tokens: Sequence[int]) -> int:
        """Rows that this continuation would add."""
        row = CONTEXT
        for depth, token in enumerate(tokens[:-1]):
            edge = self.edges.get((row, token))
            if edge is None or edge not in self._row_of:
                return len(tokens) - 1 - depth
            row = self._row_of[edge]
        return 0

    @property
    def depth(self) -> int:
        """Tokens of the longest continuation."""
        return max(map(len, self.paths.values()))

    @property
    def ancestors(self) -> NDArray[np.bool_]:
        """Which rows each row goes on from, itself included [R, R]."""
        seen = np.eye(len(self.rows), dtype=np.bool_)
        for row, parent in enumerate(self.parents):
            if parent != CONTEXT:
                seen[row] |= seen[parent]
        return seen

    def _row(self, edge: int, parent: int, token: int) -> int:
        """The row that the edge leads to."""
        if edge not in self._row_of:
            self._row_of[edge] = len(self.rows)
            self.rows.append(token)
            self.parents.append(parent)
        return self._row_of[edge]


def tries(continuations: Sequence[Sequence[int]], most: int) -> list[Trie]:
    """As few tries as that take, with at most so many rows each; each continuation is in one.

    One with more inner tokens than that has a trie of its own.
    """
    made: list[Trie] = []
    for number, tokens in sorted(enumerate(map(list, continuations)), key=itemgetter(1)):
        if not made or len(made[-1].rows) + made[-1].missing(tokens) > most:
            made.append(Trie())
        made[-1].add(number, tokens)
    return made

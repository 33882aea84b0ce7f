"""The plan of one step: who runs which tokens, and what is copied first. Frozen; no tensors."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

from ramet.cache import Copy
from ramet.runtime.sequence import Task, TrieScoring
from ramet.runtime.trie import Trie


@dataclass(frozen=True, slots=True)
class Entry:
    """Tokens `start … start + count` of a task: its sequence's, and then the rows of its trie."""

    task: Task
    start: int
    count: int
    copies: tuple[Copy, ...]

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def trie(self) -> Trie | None:
        """Whose rows are the last tokens."""
        task = self.task
        if isinstance(task, TrieScoring) and self.end > len(task.sequence.tokens):
            return task.trie
        return None

    @property
    def tokens(self) -> list[int]:
        own = self.task.sequence.tokens[self.start : self.end]
        return own if self.trie is None else own + self.trie.rows

    @property
    def outputs(self) -> int:
        """How many of the tokens, the last ones, give logits."""
        return max(0, self.end - max(self.start, self.task.wanted))


@dataclass(frozen=True, slots=True)
class Batch:
    """The entries of a step, in batch order."""

    entries: tuple[Entry, ...]

    @property
    def tokens(self) -> int:
        return sum(entry.count for entry in self.entries)

    @property
    def outputs(self) -> list[tuple[Entry, range]]:
        """Each entry with its rows of the step's logits, until one of the tasks goes on."""
        ends = list(accumulate((entry.outputs for entry in self.entries), initial=0))
        return [
            (entry, range(*rows)) for entry, rows in zip(self.entries, pairwise(ends), strict=True)
        ]

    @property
    def copies(self) -> list[Copy]:
        return [copy for entry in self.entries for copy in entry.copies]

"""The plan of one step: who runs which tokens, and what is copied first. Frozen; no tensors."""

from dataclasses import dataclass

from ramet.cache import Copy
from ramet.runtime.sequence import Task


@dataclass(frozen=True, slots=True)
class Entry:
    """Tokens `start … start + count` of a task's sequence."""

    task: Task
    start: int
    count: int
    copies: tuple[Copy, ...]

    @property
    def end(self) -> int:
        return self.start + self.count

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
    def copies(self) -> list[Copy]:
        return [copy for entry in self.entries for copy in entry.copies]

"""Scores continuations of a context: as tries behind it, in one step if they have room in one."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ramet.runtime.context import Context, ForTasks
from ramet.runtime.interpreter import Interpreter, agreed
from ramet.runtime.sequence import Scoring, Sequence as EngineSequence, TrieScoring
from ramet.runtime.trie import Trie, tries

Logprobs = list[list[float]]
"""Of the tokens of each continuation."""


@dataclass(frozen=True, slots=True)
class Behind:
    """Continuations, of one token or more each, of what a sequence holds."""

    sequence: EngineSequence
    continuations: Sequence[list[int]]


def scored(
    run: Interpreter, context: Context, *groups: Behind
) -> Generator[ForTasks, None, list[Logprobs]]:
    """Log-probabilities of the tokens of each group's continuations, given all before them.

    The very first token of an empty sequence has log-probability 0. The sequences stay as they
    are. What has no room in the first trie of a group goes to forks of its sequence, in a second
    step: further tries, and what is too long for any.
    """
    works = [_Work(run, context, group) for group in groups]
    for begin in (_Work.begin, _Work.go_on):
        tasks = [task for work in works for task in begin(work)]
        if tasks:
            yield ForTasks(tuple(tasks))
            run.settle(context, tasks)
    return [work.end() for work in works]


def needs_text(some: bool) -> str:
    """What is wrong where nothing comes before the first token that is scored."""
    if some:
        return "needs more text before it: what there is becomes one token with what is scored"
    return "needs some text before it to score on"


class _Work:
    """One group."""

    def __init__(self, run: Interpreter, context: Context, group: Behind) -> None:
        self._run, self._context, self._group = run, context, group
        self._most = run.core.trie_rows(group.sequence)
        self._tries = sorted(tries(group.continuations, self._most), key=self._is_long)
        self._forks: list[EngineSequence] = []
        self._scored: list[tuple[Trie, TrieScoring | Scoring]] = []

    def begin(self) -> list[TrieScoring | Scoring]:
        """Score the first trie, on the sequence itself, or just compute that."""
        sequence = self._group.sequence
        if not self._is_long(self._tries[0]):
            return [self._score(sequence, self._tries.pop(0))]
        if not sequence.tokens:
            return []
        return [self._run.score(self._context, sequence, len(sequence.tokens))]

    def go_on(self) -> list[TrieScoring | Scoring]:
        """Score the others."""
        return [self._score(self._fork(), trie) for trie in self._tries]

    def end(self) -> Logprobs:
        """What came out; nothing of it is kept."""
        for fork in self._forks:
            self._run.close_sequence(self._context, fork)
        found: Logprobs = [[] for _ in self._group.continuations]
        for trie, task in self._scored:
            for number, path in trie.paths.items():
                if isinstance(task, TrieScoring):
                    found[number] = [task.logprobs[edge] for edge in path]
                else:
                    found[number] = [0.0] * (len(path) - len(task.logprobs)) + task.logprobs
        self._agree(found)
        return found

    def _agree(self, found: Logprobs) -> None:
        """Let what begins alike have the same numbers, though it was run in two tries: they may
        differ in their last digits, and some methods compare them."""
        continuations = self._group.continuations
        order = sorted(range(len(continuations)), key=continuations.__getitem__)
        for before, number in pairwise(order if len(self._scored) > 1 else ()):
            most = min(len(continuations[before]), len(continuations[number]))
            common = agreed([continuations[before], continuations[number]], [most])
            found[number][:common] = found[before][:common]

    def _is_long(self, trie: Trie) -> bool:
        return len(trie.rows) > self._most

    def _fork(self) -> EngineSequence:
        fork = self._run.fork_sequence(self._context, self._group.sequence)
        self._forks.append(fork)
        return fork

    def _score(self, sequence: EngineSequence, trie: Trie) -> TrieScoring | Scoring:
        task: TrieScoring | Scoring
        if self._is_long(trie):
            (number,) = trie.paths
            start = max(1, len(sequence.tokens))
            sequence.tokens += self._group.continuations[number]
            task = self._run.score(self._context, sequence, start)
        else:
            task = self._run.score_trie(self._context, sequence, trie)
        self._scored.append((trie, task))
        return task

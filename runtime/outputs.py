"""What the logits of a step do to the tasks that wanted them: draws, continuations, scores.

Knows tasks and tensors, and neither blocks nor the scheduler. A task that fails here fails alone.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ramet.errors import RametError
from ramet.runtime.batch import Batch, Entry
from ramet.runtime.errors import Aborted, GenerationError
from ramet.runtime.sampling import Draw, Sampler, SamplingRow, continuations
from ramet.runtime.sequence import Expansion, Generation, Scoring, Task, Top, TrieScoring


class Outputs:
    """Hands out logits; `end` is told of every task that is through, and of what went wrong."""

    def __init__(self, end: Callable[[Task, RametError | None], None]) -> None:
        self._end = end
        self._sampler = Sampler()

    def hand_out(self, batch: Batch, logits: Tensor) -> None:
        """Hand each entry the logits it wanted."""
        drawing: list[tuple[int, Generation]] = []
        expanding: list[tuple[int, Expansion]] = []
        row = 0
        for entry in batch.entries:
            rows = range(row, row + entry.outputs)
            row = rows.stop
            if isinstance(entry.task, Generation):
                drawing += [(each, entry.task) for each in rows]
            elif isinstance(entry.task, Expansion):
                expanding += [(each, entry.task) for each in rows]
            elif isinstance(entry.task, Scoring):
                self._score(entry.task, entry, logits[rows.start : rows.stop])
            elif isinstance(entry.task, TrieScoring):
                self._score_trie(entry.task, entry, logits[rows.start : rows.stop])
        if expanding:
            self._expand(expanding, logits)
        if drawing:
            self._draw(drawing, logits)

    def begin(self, task: Generation) -> None:
        """The task is there: it takes what needs no logits."""
        self._attempt(task, task.go_on)

    def _draw(self, drawing: list[tuple[int, Generation]], logits: Tensor) -> None:
        """Draw a token for each task; where it is no token of its grammar, draw once more."""
        for _, task in drawing:
            if not task.done:
                self._attempt(task, task.ends_here)
        drawing = [(row, task) for row, task in drawing if not task.done]
        if not drawing:
            return
        rows: list[SamplingRow] = [task.row for _, task in drawing]
        positions = [len(task.sequence.tokens) for _, task in drawing]
        try:
            used = logits
            if len(drawing) < len(logits) or any(row.tries for row in rows):
                # A copy: sampling uses it up, and what strays is drawn again.
                used = logits[torch.tensor([row for row, _ in drawing])]
            draws = self._sampler.sample(used, rows, positions)
        except Exception as error:
            for _, task in drawing:
                self._end(task, _failure(error))
            return
        strays: list[tuple[int, Generation]] = []
        for (row, task), draw in zip(drawing, draws, strict=True):
            if not task.done:
                self._attempt(task, partial(_accept, task, draw))
            if not task.done and task.row.attempt:
                strays.append((row, task))
        if strays:
            self._draw(strays, logits)

    def _attempt(self, task: Generation, ends: Callable[[], bool]) -> None:
        """One request's own exception boundary. Its callback may end it, and others too."""
        failure = None
        try:
            if not ends():
                return
        except Exception as error:
            failure = _failure(error)
        except BaseException:
            if not task.done:
                self._end(task, Aborted("the request was interrupted"))
            raise
        if not task.done:
            self._end(task, failure)

    def _expand(self, expanding: list[tuple[int, Expansion]], logits: Tensor) -> None:
        rows, widths = zip(*((task.row, task.width) for _, task in expanding), strict=True)
        try:
            if len(expanding) < len(logits):
                logits = logits[torch.tensor([row for row, _ in expanding])]
            found = continuations(logits, rows, widths)
        except Exception as error:
            for _, task in expanding:
                self._end(task, _failure(error))
            return
        for (_, task), each in zip(expanding, found, strict=True):
            task.found = each
            self._end(task, each.error)

    def _score(self, task: Scoring, entry: Entry, logits: Tensor) -> None:
        """One request's own exception boundary, too."""
        try:
            if len(logits):
                first = entry.end - len(logits) + 1
                after = task.sequence.tokens[first : first + len(logits)]
                targets = torch.tensor(after, device=logits.device)
                all = logits.log_softmax(-1)
                logprobs = all.gather(1, targets[:, None])[:, 0]
                task.accept(first, logprobs.tolist(), _tops(all, task.top))
        except Exception as error:
            self._end(task, _failure(error))
            return
        if task.cursor == task.end:
            self._end(task, None)

    def _score_trie(self, task: TrieScoring, entry: Entry, logits: Tensor) -> None:
        """One request's own exception boundary, too."""
        try:
            edges, rows, tokens = task.edges(entry.end - len(logits), entry.end)
            if edges:
                after = logits.logsumexp(-1)
                task.accept(edges, (logits[rows, tokens] - after[rows]).tolist())
        except Exception as error:
            self._end(task, _failure(error))
            return
        if task.cursor == task.end:
            self._end(task, None)


def _tops(logprobs: Tensor, top: int) -> list[Top]:
    """The likeliest tokens of each row; nothing where none is asked for."""
    if not top:
        return []
    best = logprobs.topk(min(top, logprobs.shape[-1]))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [tuple(zip(tokens, values, strict=True)) for tokens, values in rows]


def _accept(task: Generation, draw: Draw) -> bool:
    """Take the draw, unless it strays; True when it was the last."""
    if draw.error is not None:
        raise draw.error
    return not task.row.strays(draw.token) and task.accept(draw)


def _failure(error: Exception) -> RametError:
    """The error as a request's own."""
    if isinstance(error, RametError):
        return error
    failure = GenerationError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure

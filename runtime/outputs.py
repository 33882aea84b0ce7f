"""What the logits of a step do to the tasks that wanted them: draws, continuations, scores.

Knows tasks and tensors, and neither blocks nor the scheduler. A task that fails here fails alone.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ramet.errors import RametError
from ramet.runtime.batch import Entry
from ramet.runtime.errors import Aborted, GenerationError
from ramet.runtime.inputs import indices
from ramet.runtime.sampling import Draw, Sampler, SamplingRow, continuations
from ramet.runtime.sequence import Expansion, Generation, Scoring, Task, Top, TrieScoring

Read = Callable[[], None]
"""Tells a task what was computed, which waits for the device: so all is launched before."""


class Outputs:
    """Hands out logits; `end` is told of every task that is through, and of what went wrong.

    On a device that runs beside the host, texts are told `late`: by `tell`, while the next step is
    under way. One that then ends by a stop has a token in that step, which is dropped.
    """

    def __init__(self, end: Callable[[Task, RametError | None], None], *, late: bool) -> None:
        self._end = end
        self._sampler = Sampler()
        self._late = late
        self._untold: deque[Generation] = deque()

    def tell(self) -> None:
        """Tell the texts of the last step's draws; what was told already is not told again."""
        while self._untold:
            task = self._untold.popleft()
            if not task.done:
                self._attempt(task, task.tell)

    def hand_out(self, outputs: Sequence[tuple[Entry, range]], logits: Tensor) -> None:
        """Hand each entry its rows, which `Batch.outputs` gave when the step ran. What the step
        before drew has been told."""
        drawing: list[tuple[int, Generation]] = []
        expanding: list[tuple[int, Expansion]] = []
        reading: list[tuple[Scoring | TrieScoring, Read]] = []
        for entry, rows in outputs:
            if entry.task.done:  # by whoever was told meanwhile
                continue
            if isinstance(entry.task, Generation):
                drawing += [(each, entry.task) for each in rows]
            elif isinstance(entry.task, Expansion):
                expanding += [(each, entry.task) for each in rows]
            elif isinstance(entry.task, Scoring):
                launch = partial(_score, entry.task, entry, logits[rows.start : rows.stop])
                self._launch(entry.task, launch, reading)
            elif isinstance(entry.task, TrieScoring):
                launch = partial(_score_trie, entry.task, entry, logits[rows.start : rows.stop])
                self._launch(entry.task, launch, reading)
        for task, read in reading:
            self._read(task, read)
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
                used = logits[indices([row for row, _ in drawing], logits.device)]
            draws = self._sampler.sample(used, rows, positions)
        except Exception as error:
            for _, task in drawing:
                self._end(task, _failure(error))
            return
        strays: list[tuple[int, Generation]] = []
        for (row, task), draw in zip(drawing, draws, strict=True):
            if not task.done:
                self._attempt(task, partial(_accept, task, draw, self._late))
            if not task.done and task.row.attempt:
                strays.append((row, task))
            elif task.untold is not None:
                self._untold.append(task)
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
                logits = logits[indices([row for row, _ in expanding], logits.device)]
            found = continuations(logits, rows, widths)
        except Exception as error:
            for _, task in expanding:
                self._end(task, _failure(error))
            return
        for (_, task), each in zip(expanding, found, strict=True):
            task.found = each
            self._end(task, each.error)

    def _launch(
        self,
        task: Scoring | TrieScoring,
        launch: Callable[[], Read],
        reading: list[tuple[Scoring | TrieScoring, Read]],
    ) -> None:
        """One request's own exception boundary, too."""
        try:
            reading.append((task, launch()))
        except Exception as error:
            self._end(task, _failure(error))

    def _read(self, task: Scoring | TrieScoring, read: Read) -> None:
        try:
            read()
        except Exception as error:
            self._end(task, _failure(error))
            return
        if task.cursor == task.end:
            self._end(task, None)


def _score(task: Scoring, entry: Entry, logits: Tensor) -> Read:
    if not len(logits):
        return _nothing
    first = entry.end - len(logits) + 1
    targets = indices(task.sequence.tokens[first : first + len(logits)], logits.device)
    all = logits.log_softmax(-1)
    logprobs = all.gather(1, targets[:, None])[:, 0]
    best = all.topk(min(task.top, all.shape[-1])) if task.top else None
    return lambda: task.accept(first, logprobs.tolist(), _tops(best))


def _score_trie(task: TrieScoring, entry: Entry, logits: Tensor) -> Read:
    edges, rows, tokens = task.edges(entry.end - len(logits), entry.end)
    if not edges:
        return _nothing
    after = logits.logsumexp(-1)
    row, token = (indices(each, logits.device) for each in (rows, tokens))
    logprobs = logits[row, token] - after[row]
    return lambda: task.accept(edges, logprobs.tolist())


def _nothing() -> None:
    """What is read where no logits were wanted."""


def _tops(best: "torch.return_types.topk | None") -> list[Top]:
    """The likeliest tokens of each row; nothing where none is asked for."""
    if best is None:
        return []
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [tuple(zip(tokens, values, strict=True)) for tokens, values in rows]


def _accept(task: Generation, draw: Draw, late: bool) -> bool:
    """Take the draw, unless it strays; True when it was the last."""
    if draw.error is not None:
        raise draw.error
    return not task.row.strays(draw.token) and task.accept(draw, late=late)


def _failure(error: Exception) -> RametError:
    """The error as a request's own."""
    if isinstance(error, RametError):
        return error
    failure = GenerationError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure

"""Runs the beam search of a `gen` or a `Sample`: one engine sequence for each hypothesis.

In every step the live beams are expanded together, in one batch with whatever else runs; then
hypotheses fork and are pruned by their block tables alone. A beam with several continuations forks
for all but the last, which goes on in the beam's own sequence. The ones that ended stay as they are
and can be gone on from.

A hypothesis ends at an end of text, at a stop token, or where its text completes a stop string or
the stop pattern; all of them count as an end of text does in the search: among the best `beams`
continuations they finish a hypothesis, its score includes the tokens of the stop, and further down
they drop it. Its text is then cut before the stop, as in any generation.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from ramet.nodes import Gen, Sample
from ramet.runtime.beam import BeamSearch, Hypothesis, Path
from ramet.runtime.context import Context, ForTasks, Process
from ramet.runtime.errors import SamplingError
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.sampling import Continuations, Draw, SamplingRow
from ramet.runtime.sequence import Expansion, Sequence as EngineSequence, Usage
from ramet.runtime.text import TextStream
from ramet.runtime.values import GenInfo, SamplesInfo


@dataclass(frozen=True, slots=True)
class Found:
    """A hypothesis: a sequence that holds it, and what is known of it."""

    sequence: EngineSequence
    info: GenInfo
    leftover: str  # the end of its text that no whole token of the sequence spells


def gen(
    run: Interpreter, context: Context, sequence: EngineSequence, id: int, node: Gen
) -> Process:
    """The best hypothesis is appended, and the state goes on in its sequence; with `n` over 1 the
    value is the list of the best, and nothing is appended."""
    if node.params.n == 1:
        (best,) = yield from search(run, context, sequence, id, node, 1)
        context.sequence = best.sequence
        context.generated(best.info.text, best.leftover)
        run.bind(context, id, node.name, best.info.text, best.info)
        return
    first = run.fork_sequence(context, sequence)
    found = yield from search(run, context, first, id, node, node.params.n)
    for each in found:
        run.close_sequence(context, each.sequence)
    infos = tuple(each.info for each in found)
    run.bind(context, id, node.name, [info.text for info in infos], SamplesInfo(infos))


def sample(
    run: Interpreter, context: Context, sequence: EngineSequence, id: int, node: Sample
) -> Process:
    """Every hypothesis goes on as a branch, which begins where it ended.

    If there are fewer than branches, those left over begin with the same ones again, best first.
    """
    first = run.fork_sequence(context, sequence)
    found = yield from search(run, context, first, id, node, node.count)
    again = [
        Found(run.fork_sequence(context, each.sequence), each.info, each.leftover)
        for each in islice(cycle(found), node.count - len(found))
    ]
    for index, each in enumerate([*found, *again]):
        child = run.branch(id, index)
        child.begin(context, index)
        context.owned.discard(each.sequence)
        child.own(each.sequence)
        child.generated(each.info.text, each.leftover)
        child.drawn = (node.name, each.info.text, each.info)
        run.start(child)


def search(
    run: Interpreter,
    context: Context,
    sequence: EngineSequence,
    id: int,
    node: Gen | Sample,
    count: int,
) -> Generator[ForTasks, None, list[Found]]:
    """The best `count` hypotheses, best first; at least one, and fewer where there are no more.

    The sequence is the first beam and belongs to the search: it comes back as one of those found,
    or closed. All others that the search opened are closed when it ends.

    Raises:
        PromptError, ContextLengthError, CapacityError: as the core's `limit`.
        SamplingError: every token is ruled out.
    """
    beams = _Beams(run, context, sequence, node)
    while not beams.search.done:
        tasks = beams.expand()
        yield ForTasks(tasks)
        run.settle(context, tasks)
        beams.advance(tasks)
    found = beams.found(count)
    for sample, each in enumerate(found):
        run.tell_text(context, id, node, each.info.text, sample)
    return found


@dataclass(eq=False, slots=True)
class _Beam:
    """A hypothesis in the engine, live or ended."""

    sequence: EngineSequence
    row: SamplingRow
    text: TextStream  # as far as it came; where nothing but tokens ends a hypothesis, not at all
    draws: list[Draw] = field(default_factory=list)  # where log-probabilities are asked for
    after: Expansion | None = None


class _Beams:
    """The live beams of a search, the ended ones that are kept, and the moves between them."""

    def __init__(
        self, run: Interpreter, context: Context, sequence: EngineSequence, node: Gen | Sample
    ) -> None:
        self._run, self._context = run, context
        core, params = run.core, node.params
        self.search = BeamSearch(
            params.beams,
            core.limit(sequence, params),
            length_penalty=params.length_penalty,
            early_stopping=params.early_stopping,
        )
        self._params = params
        self._prompt = len(sequence.tokens)
        self._eos = frozenset[int]() if params.ignore_eos else core.eos
        self._ends = self._eos | set(params.stop_tokens)
        self._reads = bool(params.stop or params.stop_regex)
        # Twice the beams where it is not known before which tokens complete a stop.
        self._width = (2 if self._reads else 1) * params.beams + len(self._ends)
        self._begin = TextStream(core.tokenizer, params, sequence.tokens)
        self._texts: dict[Path, TextStream] = {}  # of this step's candidates
        self._live = [_Beam(sequence, core.row(sequence, params, key=0), self._begin.copy())]
        self._ended: dict[Path, _Beam] = {}
        self._usage = Usage()

    def expand(self) -> tuple[Expansion, ...]:
        """Look for the continuations of all live beams."""
        for beam in self._live:
            beam.after = self._run.expand(
                self._context, beam.sequence, beam.row, self._width, beam.after
            )
        return tuple(beam.after for beam in self._live if beam.after is not None)

    def advance(self, tasks: Sequence[Expansion]) -> None:
        """Go on with the best of what was found."""
        found = [task.found for task in tasks if task.found is not None]
        ways = [zip(each.tokens, each.scores, strict=True) for each in found]
        self._texts.clear()
        self.search.advance(ways, self._ends_at)
        finished = [hypothesis.path for hypothesis in self.search.finished]
        for path in self._ended.keys() - set(finished):
            self._close(self._ended.pop(path))
        new = [path for path in finished if path not in self._ended]
        self._count(tasks, len(new) + len(self.search.live))
        self._run.meter.token(len(new) + len(self.search.live))
        moved = self._move((*new, *self.search.live), found)
        self._ended |= {path: moved[path] for path in new}
        self._live = [moved[path] for path in self.search.live]

    def found(self, count: int) -> list[Found]:
        """The best, at most `count`; everything else is closed."""
        finished = self.search.finished
        if not finished:
            raise SamplingError("every token is ruled out: by allowed_tokens, min_tokens or a bias")
        for beam in self._live:
            self._close(beam)
        for hypothesis in finished[count:]:
            self._close(self._ended.pop(hypothesis.path))
        texts = [self._read(hypothesis) for hypothesis in finished]
        every = {
            "texts": tuple(text.text for text in texts),
            "scores": tuple(hypothesis.score for hypothesis in finished),
        }
        return [
            self._told(hypothesis, text, every)
            for hypothesis, text in zip(finished[:count], texts, strict=False)
        ]

    # -- how

    def _ends_at(self, path: Path) -> bool:
        if path.token in self._ends:
            return True
        if not self._reads:
            return False
        text = self._texts[path] = self._live[path.beam].text.copy()
        text.push(path.token)
        return text.stopped

    def _move(self, paths: Sequence[Path], found: Sequence[Continuations]) -> dict[Path, _Beam]:
        """Each path with a beam of its own; beams that none goes on from are closed.

        The last path of each beam takes it over. Those that go on come last: they write.
        """
        successors: list[list[Path]] = [[] for _ in self._live]
        for path in paths:
            successors[path.beam].append(path)
        moved: dict[Path, _Beam] = {}
        for beam, after, ways in zip(self._live, successors, found, strict=True):
            moved |= {path: self._fork(beam) for path in after[:-1]}
            if after:
                moved[after[-1]] = beam
            else:
                self._close(beam)
            for path in after:
                self._append(moved[path], path, ways)
        return moved

    def _append(self, beam: _Beam, path: Path, ways: Continuations) -> None:
        if path.token not in self._ends:
            beam.sequence.tokens.append(path.token)
        beam.row.accept(path.token)
        beam.text = self._texts.get(path, beam.text)
        if self._params.logprobs is not None:
            logprob = ways.logprobs[ways.tokens.index(path.token)]
            beam.draws.append(Draw(path.token, logprob, ways.top))

    def _fork(self, beam: _Beam) -> _Beam:
        return _Beam(
            self._run.fork_sequence(self._context, beam.sequence),
            beam.row.fork(beam.row.key),
            beam.text,  # read by the copy only
            list(beam.draws),
            beam.after,
        )

    def _close(self, beam: _Beam) -> None:
        self._run.close_sequence(self._context, beam.sequence)

    def _count(self, tasks: Sequence[Expansion], tokens: int) -> None:
        """`generated` are the tokens of all hypotheses together."""
        for task in tasks:
            self._usage.add(task.usage)
        self._usage.generated += tokens
        self._context.usage.generated += tokens

    def _read(self, hypothesis: Hypothesis) -> TextStream:
        """The text of a hypothesis, cut where it stops."""
        text = self._begin.copy()
        for token in hypothesis.path.tokens:
            if token not in self._ends:
                text.push(token)
        text.finish()
        return text

    def _told(self, hypothesis: Hypothesis, text: TextStream, every: dict[str, Any]) -> Found:
        beam = self._ended[hypothesis.path]
        tokens = hypothesis.path.tokens
        if text.stopped:
            self._run.core.cut(beam.sequence, self._prompt + text.kept_tokens)
        info = GenInfo(
            text=text.text,
            tokens=tuple(tokens),
            finish_reason=self._reason(tokens[-1], text),
            stop=text.stopped_by,
            logprobs=tuple(beam.draws),
            usage=self._usage,
            score=hypothesis.score,
            **every,
        )
        return Found(beam.sequence, info, text.leftover)

    def _reason(self, last: int, text: TextStream) -> str:
        if text.stopped:
            return "stop"
        if last in self._ends:
            return "eos" if last in self._eos else "stop"
        return "length"

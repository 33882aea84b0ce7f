"""Runs the beam search of a `gen` or a `Sample`: one engine sequence for each hypothesis.

In every step the live beams are expanded together, in one batch with whatever else runs; then
hypotheses fork and are pruned by their block tables alone. A beam with several continuations forks
for all but the last, which goes on in the beam's own sequence. The ones that ended stay as they are
and can be gone on from.

A hypothesis ends at an end of text, at a stop token, where its text completes a stop string or the
stop pattern, or where its grammar can only end; all of them count as an end of text does in the
search: among the best `beams` continuations they finish a hypothesis, its score includes the tokens
of the stop, and further down they drop it. Its text is then cut before the stop, as in any
generation. One of a type that is cut before it is whole is none.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from ramet.nodes import Gen, Sample
from ramet.runtime.beam import BeamSearch, Hypothesis, Path
from ramet.runtime.context import Context, ForTasks, Process, Wait
from ramet.runtime.errors import ConstraintError, RametError, RuledOut
from ramet.runtime.grammar import Grammar
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.sampling import Continuations, Draw
from ramet.runtime.sequence import Expansion, Sequence as EngineSequence, Usage
from ramet.runtime.steps.hypotheses import Beam, Draws, Reading, can_rise
from ramet.runtime.steps.typed import cut_short, value
from ramet.runtime.text import TextStream
from ramet.runtime.values import GenInfo, SamplesInfo


@dataclass(frozen=True, slots=True)
class Found:
    """A hypothesis: a sequence that holds it, and what is known of it."""

    sequence: EngineSequence
    value: object
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
        run.bind(context, id, node.name, best.value, best.info)
        return
    first = run.fork_sequence(context, sequence)
    found = yield from search(run, context, first, id, node, node.params.n)
    for each in found:
        run.close_sequence(context, each.sequence)
    infos = tuple(each.info for each in found)
    run.bind(context, id, node.name, [each.value for each in found], SamplesInfo(infos))


def sample(
    run: Interpreter, context: Context, sequence: EngineSequence, id: int, node: Sample
) -> Process:
    """Every hypothesis goes on as a branch, which begins where it ended.

    If there are fewer than branches, those left over begin with the same ones again, best first.
    """
    first = run.fork_sequence(context, sequence)
    found = yield from search(run, context, first, id, node, node.count)
    again = [
        Found(run.fork_sequence(context, each.sequence), each.value, each.info, each.leftover)
        for each in islice(cycle(found), node.count - len(found))
    ]
    for index, each in enumerate([*found, *again]):
        child = run.branch(id, index)
        child.begin(context, index)
        context.owned.discard(each.sequence)
        child.own(each.sequence)
        child.generated(each.info.text, each.leftover)
        child.drawn = (node.name, each.value, each.info)
        run.start(child)


def search(
    run: Interpreter,
    context: Context,
    sequence: EngineSequence,
    id: int,
    node: Gen | Sample,
    count: int,
) -> Generator[Wait, None, list[Found]]:
    """The best `count` hypotheses, best first; at least one, and fewer where there are no more.

    The sequence is the first beam and belongs to the search: it comes back as one of those found,
    or closed. All others that the search opened are closed when it ends. Who listens is told the
    text of each as soon as it is certain.

    Raises:
        PromptError, ContextLengthError, CapacityError: as the core's `limit`.
        RuledOut: every token is ruled out.
        GenerationError: every text was cut before it was whole.
        ConstraintError: no text of the type goes on.
    """
    grammar = yield from run.grammar(context, node)
    beams = _Beams(run, context, sequence, node, count, grammar)
    told = [beams.telling() for _ in range(count if run.listening else 0)]
    while not beams.search.done:
        tasks = beams.expand()
        yield ForTasks(tasks)
        run.settle(context, tasks)
        beams.advance(tasks)
        for sample, telling in enumerate(told):
            if text := telling.upto(beams.search.agreed(sample)):
                run.tell_text(context, id, node, text, sample)
    return beams.found(count)


class _Beams:
    """The live beams of a search, the ended ones that are kept, and the moves between them."""

    def __init__(
        self,
        run: Interpreter,
        context: Context,
        sequence: EngineSequence,
        node: Gen | Sample,
        count: int,
        grammar: Grammar | None,
    ) -> None:
        self._run, self._context, self._node = run, context, node
        core, params = run.core, node.params
        self.search = BeamSearch(
            params.beams,
            core.limit(sequence, params),
            wanted=count,
            length_penalty=params.length_penalty,
            early_stopping=params.early_stopping,
            rises=can_rise(params, node.type is not None),
        )
        self._params = params
        self._prompt = len(sequence.tokens)
        self._eos = frozenset[int]() if params.ignore_eos else core.eos
        self._ends = self._eos | set(params.stop_tokens)
        reading = Reading.begin(core.tokenizer, params, sequence.tokens, grammar)
        # Twice the beams where it is not known before which tokens end a hypothesis.
        self._width = (1 if reading is None else 2) * params.beams + len(self._ends)
        self._begin = TextStream(core.tokenizer, params, sequence.tokens)
        self._readings: dict[Path, Reading] = {}  # of this step's candidates
        row = core.row(sequence, params, key=0, grammar=grammar)
        self._live = [Beam(sequence, row, reading)]
        self._ended: dict[Path, Beam] = {}
        self._stuck: ConstraintError | None = None  # of a text that its grammar leads nowhere
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
        self._readings.clear()
        self.search.advance(ways, self._ends_at, self._whole_at)
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
            raise self._nothing()
        for beam in self._live:
            self._close(beam)
        for hypothesis in finished[count:]:
            self._close(self._ended.pop(hypothesis.path))
        texts = [self._read(hypothesis.path) for hypothesis in finished]
        every = {
            "texts": tuple(text.text for text in texts),
            "scores": tuple(hypothesis.score for hypothesis in finished),
        }
        return [
            self._told(hypothesis, text, every)
            for hypothesis, text in zip(finished[:count], texts, strict=False)
        ]

    def telling(self) -> "_Telling":
        """Tells a hypothesis from its beginning."""
        return _Telling(self, self._begin.copy(), self.search.root)

    def over(self, path: Path) -> bool:
        """Whether the path is a hypothesis that ended."""
        return path in self._ended

    def written(self, path: Path, since: Path | None = None) -> list[int]:
        """The tokens of a path that are text, behind one that it begins with."""
        tokens = path.since(since)
        return tokens[:-1] if tokens and self._is_end(path) else tokens

    # -- where a hypothesis ends

    def _is_end(self, path: Path) -> bool:
        """Whether its last token ends it, and is no text."""
        return path.token in self._ends and path.length > self._params.min_tokens

    def _ends_at(self, path: Path) -> bool:
        if self._is_end(path):
            return True
        reading = self._live[path.beam].reading
        if reading is None:
            return False
        try:
            reading = self._readings[path] = reading.after(path.token, path.length)
        except ConstraintError as error:
            self._stuck = error
            return True
        return reading.over

    def _whole_at(self, path: Path) -> bool:
        """Whether what ends here keeps to the type."""
        if self._node.type is None:
            return True
        reading = self._readings.get(path)
        if self._is_end(path):
            reading = self._live[path.beam].reading
        if reading is None or reading.grammar is None:
            return False
        text = self._read(path)
        return reading.grammar.matches(text.text) if text.stopped else reading.grammar.can_end

    def _nothing(self) -> RametError:
        """Why there is no hypothesis."""
        if self._stuck is not None:
            return self._stuck
        if self.search.cut is None:
            return RuledOut("every token is ruled out: by allowed_tokens, min_tokens or a bias")
        path = self.search.cut.path
        text = self._read(path)
        reason = "stop" if text.stopped or self._is_end(path) else "length"
        return cut_short(self._node, text.text, reason, text.stopped_by, path.length)

    # -- how

    def _move(self, paths: Sequence[Path], found: Sequence[Continuations]) -> dict[Path, Beam]:
        """Each path with a beam of its own; beams that none goes on from are closed.

        The last path of each beam takes it over. Those that go on come last: they write.
        """
        successors: list[list[Path]] = [[] for _ in self._live]
        for path in paths:
            successors[path.beam].append(path)
        moved: dict[Path, Beam] = {}
        for beam, after, ways in zip(self._live, successors, found, strict=True):
            for path in after[:-1]:
                moved[path] = beam.fork(self._run.fork_sequence(self._context, beam.sequence))
            if after:
                moved[after[-1]] = beam
            else:
                self._close(beam)
            for path in after:
                self._append(moved[path], path, ways)
        return moved

    def _append(self, beam: Beam, path: Path, ways: Continuations) -> None:
        if not self._is_end(path):
            beam.sequence.tokens.append(path.token)
        beam.row.accept(path.token)
        if path in self._readings:
            beam.reading = self._readings[path]
            beam.row.grammar = beam.reading.grammar
        if self._params.logprobs is not None:
            logprob = ways.logprobs[ways.tokens.index(path.token)]
            beam.draws = Draws(Draw(path.token, logprob, ways.top), beam.draws)

    def _close(self, beam: Beam) -> None:
        self._run.close_sequence(self._context, beam.sequence)

    def _count(self, tasks: Sequence[Expansion], tokens: int) -> None:
        """`generated` are the tokens of all hypotheses together."""
        for task in tasks:
            self._usage.add(task.usage)
        self._usage.generated += tokens
        self._context.usage.generated += tokens

    def _read(self, path: Path) -> TextStream:
        """The text of a path that ended, cut where it stops."""
        text = self._begin.copy()
        for token in self.written(path):
            text.push(token)
        text.finish()
        return text

    def _told(self, hypothesis: Hypothesis, text: TextStream, every: dict[str, Any]) -> Found:
        path = hypothesis.path
        beam = self._ended[path]
        worth = value(self._node, text.text)
        if text.stopped:
            self._run.core.cut(beam.sequence, self._prompt + text.kept_tokens)
        info = GenInfo(
            text=text.text,
            tokens=tuple(path.tokens),
            finish_reason=self._reason(path, text),
            stop=text.stopped_by,
            logprobs=() if beam.draws is None else beam.draws.listed(),
            usage=self._usage,
            score=hypothesis.score,
            **every,
        )
        return Found(beam.sequence, worth, info, text.leftover)

    def _reason(self, path: Path, text: TextStream) -> str:
        if text.stopped:
            return "stop"
        if self._is_end(path):
            return "eos" if path.token in self._eos else "stop"
        grammar = self._ended[path].row.grammar
        return "grammar" if grammar is not None and grammar.finished else "length"


class _Telling:
    """Tells the text of one hypothesis while it becomes certain; nothing is taken back."""

    def __init__(self, beams: _Beams, text: TextStream, path: Path) -> None:
        self._beams, self._text, self._path = beams, text, path

    def upto(self, path: Path) -> str:
        """What is new, now that the hypothesis certainly begins with this path, or is it."""
        if path is self._path:
            return ""
        text = "".join(map(self._text.push, self._beams.written(path, self._path)))
        self._path = path
        return text + self._text.finish() if self._beams.over(path) else text

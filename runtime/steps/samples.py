"""Draws samples of one context side by side, on forks that share all of it, and keeps the best.

The best are those whose tokens have the highest log-probability on average: the model's own, before
temperature and everything else that decides what is drawn. The rest give their blocks back at once.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from statistics import fmean

from ramet.nodes import Gen, Sample
from ramet.runtime.context import Context, ForTasks, Wait
from ramet.runtime.errors import GenerationError
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.sampling import Healing
from ramet.runtime.sequence import Generation, Sequence
from ramet.runtime.steps.typed import cut_short, value
from ramet.runtime.values import GenInfo


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample: the sequence that holds it, and what is known of it."""

    sequence: Sequence
    info: GenInfo
    leftover: str  # the end of its text that no whole token of the sequence spells
    worth: object
    error: GenerationError | None  # why it is worth nothing

    @property
    def value(self) -> object:
        """The value of the text; `GenerationError` if it was cut, or what it says is none."""
        if self.error is not None:
            raise self.error
        return self.worth


def draw(
    run: Interpreter,
    context: Context,
    sequence: Sequence,
    id: int,
    node: Gen | Sample,
    healing: Healing | None,
) -> Generator[Wait, None, list[Drawn]]:
    """The samples of a node, in their order; with `best_of` the best of them, best first.

    Where there is a healing, each draws the end of the sequence's text anew.

    The sequence stays as it is, except for a `gen` with one text: then that, or one of those it is
    chosen from, is drawn on the sequence itself.
    """
    params = node.params
    on_itself = isinstance(node, Gen) and params.n == 1
    choosy = params.best_of > 1
    asks = replace(node, params=replace(params, logprobs=params.logprobs or 0)) if choosy else node
    grammar = yield from run.grammar(context, node, "" if healing is None else healing.text)
    first = sequence if on_itself else run.fork_sequence(context, sequence)
    if healing is not None:
        run.core.cut(first, len(first.tokens) - healing.count)
    computed = 0
    if params.samples > 1:
        run.core.limit(first, params)  # raises before anything is computed
        computed = yield from _compute(run, context, first)
    others = [run.fork_sequence(context, first) for _ in range(params.samples - 1)]
    tasks = tuple(
        run.generate(
            context,
            place,
            id,
            asks,
            number,
            None if grammar is None else grammar.copy(),
            healing=healing,
            told=not choosy,
        )
        for number, place in enumerate((first, *others))
    )
    yield ForTasks(tasks)
    run.settle(context, tasks)
    # Each sample counts its whole prompt, the first one too, and it has been counted before.
    reused = sum(task.usage.prompt_reused for task in tasks)
    context.usage.prompt_reused -= min(computed, reused)
    drawn = [_drawn(node, task) for task in tasks]
    return _chosen(run, context, id, node, drawn) if choosy else drawn


def _compute(run: Interpreter, context: Context, sequence: Sequence) -> Generator[Wait, None, int]:
    """Compute what all samples begin with, so that none does it again, but for the last token, of
    which each wants the logits. How many tokens that counted; none if they are there already."""
    shared = len(sequence.tokens) - 1
    if sequence.table.length >= shared:
        return 0
    last = sequence.tokens.pop()
    task = run.score(context, sequence, shared)
    yield ForTasks((task,))
    run.settle(context, (task,))
    sequence.tokens.append(last)
    return shared


def _chosen(
    run: Interpreter, context: Context, id: int, node: Gen | Sample, drawn: list[Drawn]
) -> list[Drawn]:
    """The `n` best, told now; the sequences of all others are closed."""
    ranked = sorted(drawn, key=_rank)
    for loser in ranked[node.params.n :]:
        run.close_sequence(context, loser.sequence)
    texts = tuple(each.info.text for each in ranked)
    scores = tuple(each.info.score or 0.0 for each in ranked)
    best = ranked[: node.params.n]
    for place, each in enumerate(best):
        run.tell_text(context, id, node, each.info.text, place)
    return [replace(each, info=replace(each.info, texts=texts, scores=scores)) for each in best]


def _rank(drawn: Drawn) -> tuple[bool, float]:
    """Whatever has a value comes first."""
    return drawn.error is not None, -(drawn.info.score or 0.0)


def _drawn(node: Gen | Sample, task: Generation) -> Drawn:
    text, worth, error = task.text, None, None
    try:
        worth = _value(node, task)
    except GenerationError as caught:
        error = caught
    info = GenInfo(
        text=text.text,
        tokens=tuple(task.drawn),
        finish_reason=task.finish_reason,
        stop=text.stopped_by,
        logprobs=() if node.params.logprobs is None else tuple(task.draws),
        usage=task.usage,
        score=_score(node, task) if node.params.best_of > 1 else None,
    )
    return Drawn(task.sequence, info, text.leftover, worth, error)


def _value(node: Gen | Sample, task: Generation) -> object:
    text = task.text
    if not task.complete:
        drawn = len(task.drawn)
        raise cut_short(node, text.text, task.finish_reason, text.stopped_by, drawn)
    return value(node, text.text)


def _score(node: Gen | Sample, task: Generation) -> float:
    """Mean log-probability of the tokens. The end of a typed text is left out, unless it is all
    there is: it stands for whatever the type rules out."""
    logprobs = [draw.logprob or 0.0 for draw in task.draws]
    if node.type is not None and task.finish_reason == "eos":
        logprobs = logprobs[:-1] or logprobs
    return fmean(logprobs)

"""Runs `score`: the log-probability of a text as the continuation of a context.

Scores of one state append nothing, so those that follow each other are computed together: the first
leaves what came out for the others as work that is done.
"""

from collections.abc import Iterator
from itertools import islice

from ramet.nodes import Ref, Score
from ramet.runtime.context import Context, Process
from ramet.runtime.errors import PromptError
from ramet.runtime.interpreter import Interpreter, agreed
from ramet.runtime.steps.continuations import Behind, needs_text, scored
from ramet.runtime.values import ScoreInfo
from ramet.runtime.works import Outcome, work_key


def score(run: Interpreter, context: Context, id: int, node: Score) -> Process:
    """The text is tokenized with the text before it; what they share of the tokens is not scored.

    A token in which both meet counts to the text, as in `select`. The values that the text refers
    to are there: `once` has waited for them.
    """
    if not run.spelled(node.parts):
        raise PromptError(f"score {node.name}: the text is empty")
    others = dict(_others(run, context))
    works = {key: run.works.begin(key) for key in others}
    sequence = run.opened(context)
    texts = [run.spelled(each.parts) for each in (node, *others.values())]
    try:
        plain, *ways = run.core.tokenizer.encode_each(
            context.pending, ("", *texts), start=not sequence.tokens
        )
        # One that cannot be computed at all has an error of its own, when its turn comes.
        length = len(sequence.tokens)
        kept = [0, *(n for n in range(1, len(ways)) if run.core.fits(length + len(ways[n])))]
        ways = [ways[n] for n in kept]
        starts = [agreed([plain, way], [len(way) - 1]) for way in ways]
        common = min(starts)
        if length + common == 0:
            raise PromptError(f"score {needs_text(bool(plain))}")
        trial = run.fork_sequence(context, sequence)
        trial.tokens += plain[:common]
        (found,) = yield from scored(run, context, Behind(trial, [way[common:] for way in ways]))
        run.close_sequence(context, trial)
        infos = [
            ScoreInfo(text, tuple(way[at:]), tuple(logprobs[at - common :]))
            for text, way, at, logprobs in zip(
                (texts[n] for n in kept), ways, starts, found, strict=True
            )
        ]
        begun = list(works.values())
        for n, info in zip(kept[1:], infos[1:], strict=True):
            begun[n - 1].outcome = _outcome(context, info)
    finally:
        for key in works:
            run.works.end(key, context, run.core)
    run.bind(context, id, node.name, infos[0].value, infos[0])


def _others(run: Interpreter, context: Context) -> Iterator[tuple[bytes, Score]]:
    """The scores that follow on this state, as far as their texts are there, with what each is
    known by as work; without those that somebody does already, and what cannot be scored."""
    for _, node in islice(context.queue, 1, None):
        if not isinstance(node, Score):
            return
        if not all(run.has_value(part.node) for part in node.parts if isinstance(part, Ref)):
            return
        key = work_key(context, node, run.spelled)
        if key is not None and run.works.find(key) is None and run.spelled(node.parts):
            yield key, node


def _outcome(context: Context, info: ScoreInfo) -> Outcome:
    """A score leaves its value, and the state as it is."""
    sequence = context.sequence
    return Outcome(
        begun=0 if sequence is None else len(sequence.tokens),
        tokens=(),
        pending=tuple(context.pending),
        generated=0,
        text=None,
        value=info.value,
        info=info,
    )

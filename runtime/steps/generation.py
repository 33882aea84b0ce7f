"""Runs `gen` and `Sample`: draws on the state itself, or on forks of it."""

from ramet.nodes import Gen, Sample
from ramet.runtime.context import Context, Process
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.sampling import Healing
from ramet.runtime.sequence import Sequence
from ramet.runtime.steps import beams, samples
from ramet.runtime.values import SamplesInfo


def gen(run: Interpreter, context: Context, id: int, node: Gen) -> Process:
    """One text is appended; of several, the value is the list, and nothing is appended."""
    sequence, healing = _prompt(run, context, node)
    if node.params.beams > 1:
        yield from beams.gen(run, context, sequence, id, node)
        return
    drawn = yield from samples.draw(run, context, sequence, id, node, healing)
    if node.params.n == 1:
        (best,) = drawn
        context.sequence = best.sequence
        context.generated(best.info.text, best.leftover)
        run.bind(context, id, node.name, best.value, best.info)
        return
    for each in drawn:
        run.close_sequence(context, each.sequence)
    infos = tuple(each.info for each in drawn)
    run.bind(context, id, node.name, [each.value for each in drawn], SamplesInfo(infos))


def sample(run: Interpreter, context: Context, id: int, node: Sample) -> Process:
    """Every draw goes on as a branch, which begins where the draw ended."""
    sequence, healing = _prompt(run, context, node)
    if node.params.beams > 1:
        yield from beams.sample(run, context, sequence, id, node)
        return
    drawn = yield from samples.draw(run, context, sequence, id, node, healing)
    for index, each in enumerate(drawn):
        child = run.branch(id, index)
        child.begin(context, index)
        context.owned.discard(each.sequence)
        child.own(each.sequence)
        child.generated(each.info.text, each.leftover)
        child.drawn = (node.name, each.value, each.info)
        run.start(child)


def _prompt(
    run: Interpreter, context: Context, node: Gen | Sample
) -> tuple[Sequence, Healing | None]:
    """The state's sequence with all its text; and which end of that text is to be drawn anew."""
    begun, text = len(run.opened(context).tokens), context.plain
    sequence = run.encoded(context)
    healing = run.core.spellings.heal(sequence.tokens, begun, text) if node.params.heal else None
    return sequence, healing

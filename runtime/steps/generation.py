"""Runs `gen` and `Sample`: draws on the state itself, or on forks of it."""

from collections.abc import Generator, Sequence

from ramet.nodes import Gen, Sample
from ramet.runtime.context import Context, ForTasks, Process, Wait
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.sequence import Generation, Sequence as EngineSequence
from ramet.runtime.steps import beams
from ramet.runtime.steps.typed import cut_short, value
from ramet.runtime.values import GenInfo, SamplesInfo


def gen(run: Interpreter, context: Context, id: int, node: Gen) -> Process:
    sequence = run.encoded(context)
    if node.params.beams > 1:
        yield from beams.gen(run, context, sequence, id, node)
        return
    if node.params.n > 1:
        drawn = yield from _draws(run, context, sequence, id, node, node.params.n)
        for fork, _ in drawn:
            run.close_sequence(context, fork)
        infos = tuple(_info(task) for _, task in drawn)
        values = [typed(node, task) for _, task in drawn]
        run.bind(context, id, node.name, values, SamplesInfo(infos))
        return
    grammar = yield from run.grammar(context, node)
    task = run.generate(context, sequence, id, node, 0, grammar)
    yield ForTasks((task,))
    run.settle(context, (task,))
    context.generated(task.text.text, task.text.leftover)
    run.bind(context, id, node.name, typed(node, task), _info(task))


def sample(run: Interpreter, context: Context, id: int, node: Sample) -> Process:
    """Every draw goes on as a branch, which begins where the draw ended."""
    sequence = run.encoded(context)
    if node.params.beams > 1:
        yield from beams.sample(run, context, sequence, id, node)
        return
    drawn = yield from _draws(run, context, sequence, id, node, node.count)
    for index, (fork, task) in enumerate(drawn):
        child = run.branch(id, index)
        child.begin(context, index)
        context.owned.discard(fork)
        child.own(fork)
        child.generated(task.text.text, task.text.leftover)
        child.drawn = (node.name, typed(node, task), _info(task))
        run.start(child)


def typed(node: Gen | Sample, task: Generation) -> object:
    """The value of a generated text; `GenerationError` if it was cut before it was whole."""
    text = task.text
    if not task.complete:
        drawn = len(task.drawn)
        raise cut_short(node, text.text, task.finish_reason, text.stopped_by, drawn)
    return value(node, text.text)


def _draws(
    run: Interpreter,
    context: Context,
    sequence: EngineSequence,
    id: int,
    node: Gen | Sample,
    count: int,
) -> Generator[Wait, None, Sequence[tuple[EngineSequence, Generation]]]:
    """Samples side by side on forks of the sequence; the state itself appends nothing."""
    grammar = yield from run.grammar(context, node)
    forks = [run.fork_sequence(context, sequence) for _ in range(count)]
    tasks = tuple(
        run.generate(context, fork, id, node, i, None if grammar is None else grammar.copy())
        for i, fork in enumerate(forks)
    )
    yield ForTasks(tasks)
    run.settle(context, tasks)
    return list(zip(forks, tasks, strict=True))


def _info(task: Generation) -> GenInfo:
    return GenInfo(
        text=task.text.text,
        tokens=tuple(task.drawn),
        finish_reason=task.finish_reason,
        stop=task.text.stopped_by,
        logprobs=tuple(task.draws),
        usage=task.usage,
    )

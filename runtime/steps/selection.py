"""Runs `select`: every option scored on the shared context, one appended."""

from collections.abc import Generator, Sequence

from ramet.nodes import Select
from ramet.runtime.choice import Scored, choose
from ramet.runtime.context import Context, ForTasks, Process
from ramet.runtime.errors import PromptError
from ramet.runtime.interpreter import Interpreter, agreed
from ramet.runtime.tokenizer import Piece


def select(run: Interpreter, context: Context, id: int, node: Select) -> Process:
    sequence = run.opened(context)
    ways = [run.encode(context, [*context.pending, Piece(o, False)]) for o in node.options]
    at = agreed([run.encode(context, context.pending), *ways], [len(w) - 1 for w in ways])
    start = len(sequence.tokens) + at
    if start == 0:
        raise PromptError("select needs some text before it to score its options on")
    sequence.tokens += ways[0][:at]
    shared = run.score(context, sequence, start)
    yield ForTasks((shared,))
    run.settle(context, (shared,))
    forks = [run.fork_sequence(context, sequence) for _ in ways]
    for fork, way in zip(forks, ways, strict=True):
        fork.tokens += way[at:]
    tasks = tuple(run.score(context, fork, start) for fork in forks)
    yield ForTasks(tasks)
    run.settle(context, tasks)
    logprobs = [task.logprobs for task in tasks]
    alone = [[0.0] * len(each) for each in logprobs]
    if node.by == "unconditional":
        alone = yield from _alone(run, context, [way[at:] for way in ways])
    scored = Scored([way[at:] for way in ways], logprobs, alone)
    info = choose(node, scored, run.key(context, node.seed), start)
    chosen = node.options.index(info.text)
    for index, fork in enumerate(forks):
        if index != chosen:
            run.close_sequence(context, fork)
    run.close_sequence(context, sequence)
    context.sequence = forks[chosen]
    context.pending = []
    context.generated(info.text, "")
    run.bind(context, id, node.name, info.text, info)


def _alone(
    run: Interpreter, context: Context, options: Sequence[list[int]]
) -> Generator[ForTasks, None, list[list[float]]]:
    """Log-probabilities of each option's tokens without the context; 0 for the first."""
    sequences = [run.open_sequence(context, option) for option in options]
    tasks = tuple(run.score(context, sequence, 1) for sequence in sequences)
    yield ForTasks(tasks)
    run.settle(context, tasks)
    for sequence in sequences:
        run.close_sequence(context, sequence)
    return [[0.0, *task.logprobs] for task in tasks]

"""Runs `score`: the log-probability of a text as the continuation of a context."""

from ramet.nodes import Score
from ramet.runtime.context import Context, ForTasks, Process
from ramet.runtime.errors import PromptError
from ramet.runtime.interpreter import Interpreter, agreed
from ramet.runtime.tokenizer import Piece
from ramet.runtime.values import ScoreInfo


def score(run: Interpreter, context: Context, id: int, node: Score) -> Process:
    """The text is tokenized with the text before it; what they share of the tokens is not scored.

    A token in which both meet counts to the text, as in `select`. The values that the text refers
    to are there: `once` has waited for them.
    """
    continuation = run.spelled(node.parts)
    sequence = run.opened(context)
    before = run.encode(context, context.pending)
    whole = run.encode(context, [*context.pending, Piece(continuation, control=False)])
    at = agreed([before, whole], [len(whole) - 1])
    start = len(sequence.tokens) + at
    if start == 0:
        raise PromptError("score needs some text before it")
    trial = run.fork_sequence(context, sequence)
    trial.tokens += whole
    task = run.score(context, trial, start)
    yield ForTasks((task,))
    run.settle(context, (task,))
    run.close_sequence(context, trial)
    info = ScoreInfo(continuation, tuple(whole[at:]), tuple(task.logprobs))
    run.bind(context, id, node.name, info.value, info)

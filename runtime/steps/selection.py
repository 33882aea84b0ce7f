"""Runs `select`: every option scored on the shared context, one appended."""

from ramet.nodes import Select
from ramet.runtime.choice import Scored, choose
from ramet.runtime.context import Context, Process
from ramet.runtime.errors import PromptError
from ramet.runtime.interpreter import Interpreter, agreed
from ramet.runtime.steps.continuations import Behind, scored
from ramet.runtime.tokenizer import Piece


def select(run: Interpreter, context: Context, id: int, node: Select) -> Process:
    """An option is tokenized together with the text before it. What all of them and that text
    have in common is context; what is scored begins where the first of them parts from it."""
    sequence = run.opened(context)
    ways = [run.encode(context, [*context.pending, Piece(o, False)]) for o in node.options]
    at = agreed([run.encode(context, context.pending), *ways], [len(w) - 1 for w in ways])
    start = len(sequence.tokens) + at
    if start == 0:
        raise PromptError("select needs some text before it to score its options on")
    sequence.tokens += ways[0][:at]
    options = [way[at:] for way in ways]
    groups = [Behind(sequence, options)]
    if node.by == "unconditional":
        groups.append(Behind(run.open_sequence(context, ()), options))
    logprobs, *alone = yield from scored(run, context, *groups)
    for group in groups[1:]:
        run.close_sequence(context, group.sequence)
    known = Scored(options, logprobs, alone[0] if alone else [[0.0] * len(o) for o in options])
    info = choose(node, known, run.key(context, node.seed), start)
    sequence.tokens += options[node.options.index(info.text)]
    context.pending = []
    context.generated(info.text, "")
    run.bind(context, id, node.name, info.text, info)

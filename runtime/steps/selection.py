"""Runs `select`: every option scored on the shared context, one appended."""

from ramet.nodes import Select
from ramet.runtime.choice import Scored, choose
from ramet.runtime.context import Context, Process
from ramet.runtime.errors import PromptError
from ramet.runtime.interpreter import Interpreter, agreed
from ramet.runtime.steps.continuations import Behind, needs_text, scored


def select(run: Interpreter, context: Context, id: int, node: Select) -> Process:
    """An option is tokenized together with the text before it. What all of them and that text
    have in common is context; what is scored begins where the first of them parts from it."""
    sequence = run.opened(context)
    start = not sequence.tokens
    endings = ("", *node.options)
    plain, *ways = run.core.tokenizer.encode_each(context.pending, endings, start=start)
    at = agreed([plain, *ways], [len(way) - 1 for way in ways])
    begin = len(sequence.tokens) + at
    if begin == 0:
        raise PromptError(f"select {needs_text(bool(plain))}")
    sequence.tokens += ways[0][:at]
    options = [way[at:] for way in ways]
    groups = [Behind(sequence, options)]
    if node.by == "unconditional":
        groups.append(Behind(run.open_sequence(context, ()), options))
    logprobs, *alone = yield from scored(run, context, *groups)
    for group in groups[1:]:
        run.close_sequence(context, group.sequence)
    known = Scored(options, logprobs, alone[0] if alone else [[0.0] * len(o) for o in options])
    info = choose(node, known, run.key(context, node.seed), begin)
    sequence.tokens += options[node.options.index(info.text)]
    context.pending = []
    context.generated(info.text, "")
    run.bind(context, id, node.name, info.text, info)

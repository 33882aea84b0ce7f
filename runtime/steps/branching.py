"""Runs the nodes that begin and end states. No tensor work: block tables fork, tensors do not."""

from ramet.nodes import Branch, Call, Fork, Keep
from ramet.runtime.context import Context, ForRest, Process
from ramet.runtime.events import BranchKept, BranchReleased
from ramet.runtime.interpreter import Interpreter


def fork(run: Interpreter, context: Context, id: int, node: Fork) -> Process:
    yield from ()
    for index in range(node.count):
        child = run.branch(id, index)
        child.begin(context, index)
        if context.sequence is not None:
            child.sequence = run.fork_sequence(child, context.sequence)
        run.start(child)


def begin(run: Interpreter, context: Context, id: int, node: Branch | Call) -> Process:
    """A branch of a sample begins with a value."""
    yield from ()
    if context.drawn is not None:
        name, value, info = context.drawn
        run.bind(context, id, name, value, info)
        context.drawn = None


def keep(run: Interpreter, context: Context, id: int, node: Keep) -> Process:
    """Become the branch once it has run what it has; the others end where they are."""
    kept = run.context_of(node.branch)
    if not kept.resting:
        yield ForRest(kept)
    for sibling in list(kept.family.values()):
        if sibling is not kept:
            run.end(sibling)
            run.tell(BranchReleased(sibling.path))
    if context.sequence is not None:
        run.close_sequence(context, context.sequence)
    context.become(kept)
    run.tell(BranchKept(kept.path))
    run.leave(kept)

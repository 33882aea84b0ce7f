"""Runs the nodes that append text: what is written out, values, and the turns of the template."""

from ramet.nodes import Close, Open, Text
from ramet.runtime.context import Context, Process
from ramet.runtime.interpreter import Interpreter


def text(run: Interpreter, context: Context, id: int, node: Text) -> Process:
    yield from run.await_values(node.parts)
    appended = run.spelled(node.parts)
    run.meter.made(len(appended), node.span)
    context.write(appended)


def open_turn(run: Interpreter, context: Context, id: int, node: Open) -> Process:
    yield from ()
    piece, context.conversation = context.conversation.open(node.role)
    context.write_template(piece)


def close_turn(run: Interpreter, context: Context, id: int, node: Close) -> Process:
    yield from ()
    piece, context.conversation = context.conversation.close()
    context.write_template(piece)

"""Lets a step run once for all states that come to the same work."""

from collections.abc import Callable
from functools import partial, wraps

from ramet.nodes import Gen, Score, Select
from ramet.runtime.context import Context, ForWork, Process
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.steps.typed import value
from ramet.runtime.values import SamplesInfo
from ramet.runtime.works import Outcome, work_key

Node = Gen | Select | Score
Step = Callable[[Interpreter, Context, int, Node], Process]


def once(step: Callable[..., Process]) -> Callable[..., Process]:
    """The step, which takes over what another state has done, or waits for it."""

    @wraps(step)
    def shared(run: Interpreter, context: Context, id: int, node: Node) -> Process:
        if isinstance(node, Score):
            yield from run.await_values(node.parts)
        key = work_key(context, node, run.spelled)
        work = None
        while key is not None and (work := run.works.find(key)) is not None:
            if work.failed:
                break
            if work.outcome is not None:
                _take_over(run, context, id, node, work.outcome)
                return
            work.waiting.append((context, partial(run.wake, context)))
            yield ForWork()
        if key is None or work is not None:
            yield from step(run, context, id, node)
            return
        work = run.works.begin(key)
        begun = 0 if context.sequence is None else len(context.sequence.tokens)
        written, drawn = len(context.written), context.usage.generated
        try:
            yield from step(run, context, id, node)
            generated = context.usage.generated - drawn
            work.outcome = _outcome(run, context, id, begun, written, generated)
        except Exception:
            work.failed = True
            raise
        finally:
            run.works.end(key, context, run.core)

    return shared


def _outcome(
    run: Interpreter, context: Context, id: int, begun: int, written: int, generated: int
) -> Outcome:
    sequence = run.opened(context)
    new = context.written[written:]
    return Outcome(
        begun=begun,
        tokens=tuple(sequence.tokens[begun:]),
        pending=tuple(context.pending),
        generated=generated,
        text="".join(span.text for span in new) if new else None,
        value=run.value(id),
        info=run.info(id),
    )


def _take_over(run: Interpreter, context: Context, id: int, node: Node, outcome: Outcome) -> None:
    """Go on as if this state had done it; its limits count what was generated, too."""
    run.meter.token(outcome.generated)
    run.opened(context).tokens[outcome.begun :] = outcome.tokens
    if outcome.text is not None:
        context.generated(outcome.text, "")
    if isinstance(node, Gen):
        texts = [outcome.text] if outcome.text is not None else outcome.info.text
        for sample, text in enumerate(texts):
            run.tell_text(context, id, node, str(text), sample)
    context.pending = list(outcome.pending)
    run.bind(context, id, node.name, _value(node, outcome), outcome.info)


def _value(node: Node, outcome: Outcome) -> object:
    """A text is read anew: it may be of another class here, and a list is shared by nobody."""
    if not isinstance(node, Gen) or node.type is None:
        return outcome.value
    if isinstance(outcome.info, SamplesInfo):
        return [value(node, sample.text) for sample in outcome.info.samples]
    return value(node, outcome.info.text)

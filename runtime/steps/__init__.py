"""How each kind of node runs: a generator that yields what it waits for.

A step is given the interpreter, the state it runs on, its id and its node. It may use of the
interpreter what is public there, and changes no state but its own and the branches it begins.
"""

from collections.abc import Callable

from ramet.nodes import (
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Keep,
    Node,
    Open,
    Sample,
    Score,
    Select,
    Text,
)
from ramet.runtime.context import Process
from ramet.runtime.steps import branching, generation, scoring, selection, texts
from ramet.runtime.steps.once import once

RUN: dict[type[Node], Callable[..., Process]] = {
    Text: texts.text,
    Open: texts.open_turn,
    Close: texts.close_turn,
    Gen: once(generation.gen),
    Sample: generation.sample,
    Select: once(selection.select),
    Score: once(scoring.score),
    Fork: branching.fork,
    Branch: branching.begin,
    Call: branching.begin,
    Keep: branching.keep,
}

"""Bounds on the tokens of a graph: what its nodes may come to at most, and what is certain.

Knows text and a function that counts its tokens; no tokenizer, and no template of a chat.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from ramet.graph import Graph, before
from ramet.ledger import Ledger
from ramet.nodes import (
    Branch,
    Close,
    Fork,
    Gen,
    Input,
    Open,
    Part,
    Ref,
    Sample,
    Score,
    Select,
    Text,
)
from ramet.params import SamplingParams

Count: TypeAlias = Callable[[str], int]

DRAWS = (Gen, Select, Score, Sample)
"""The nodes that run their context through a model."""
NUMBER_TOKENS = 24
"""A number as a text: at most this many characters, and so no more tokens."""


def width(params: SamplingParams) -> int:
    """How many continuations are drawn side by side."""
    return max(params.samples, params.beams)


class Most:
    """What the nodes of a graph come to at most, in tokens.

    Texts are counted piece by piece: tokenized together they are taken to have no more tokens. A
    value counts as what it may be: `max_tokens`, or the longest option; an argument that is not
    given yet counts as nothing.
    """

    def __init__(self, graph: Graph, ledger: Ledger, count: Count, turn: int) -> None:
        self.graph = graph
        self._ledger = ledger
        self._count = cache(count)
        self._turn = turn
        self.appended = [self._appended(id) for id in range(len(graph.nodes))]
        self.context: list[int] = []  # of each node, with what it appends
        for id, node in enumerate(graph.nodes):
            earlier = before(node)
            self.context.append(
                self.appended[id] + (0 if earlier is None else self.context[earlier])
            )

    def text(self, parts: Iterable[Part]) -> int:
        """Tokens of the text."""
        return sum(self._part(part) for part in parts)

    def options(self, node: Select) -> list[int]:
        """Tokens of each option."""
        return [self._count(option) for option in node.options]

    def _part(self, part: Part) -> int:
        if isinstance(part, str):
            return self._count(part)
        match self._ledger.binds(part.node):
            case Gen(params=params) | Sample(params=params) if part.attribute in (None, "text"):
                return params.max_tokens
            case Select() as node if part.attribute in (None, "text"):
                return max(self.options(node))
            case Input():
                return 0
            case _:
                return NUMBER_TOKENS

    def _appended(self, id: int) -> int:
        match self.graph.nodes[id]:
            case Text(parts=parts):
                return self.text(parts)
            case Open():
                return self._turn
            case Gen(params=params):
                return params.max_tokens if params.n == 1 else 0
            case Select() as node:
                return max(self.options(node))
            case Branch(state=fork) if isinstance(sample := self.graph.nodes[fork], Sample):
                return sample.params.max_tokens
            case _:
                return 0


@dataclass(frozen=True, slots=True)
class Need:
    """What one draw certainly needs, in tokens."""

    node: int
    context: int  # before it
    room: int  # together with all it may draw


@dataclass(frozen=True, slots=True)
class _Known:
    """What is certain of a context after a node."""

    tokens: int = 0  # of all that is counted
    run: str = ""  # text whose tokens depend on what comes next: less than a word, mostly
    sharp: bool = True  # whether nothing unknown stands right before the run


def needs(graph: Graph, count: Count) -> Iterator[Need]:
    """What each draw certainly needs.

    Certain for every tokenizer whose tokens do not reach over a space after a letter: where a text
    meets something unknown (a value, an option, a turn), the word next to it is not counted. What
    is generated counts as nothing, since it may end at once.
    """
    known: list[_Known] = []
    for id, node in enumerate(graph.nodes):
        earlier = before(node)
        now = _Known() if earlier is None else known[earlier]
        if isinstance(node, Gen | Sample):
            ending = 0 if node.params.heal else _ending(now, count)  # less, if it is taken back
            now = _Known(now.tokens + ending, sharp=False)
            yield Need(id, now.tokens, now.tokens + node.params.max_tokens)
        elif isinstance(node, Select | Score):
            yield Need(id, now.tokens, now.tokens)
            now = now if isinstance(node, Score) else _Known(now.tokens, sharp=False)
        elif isinstance(node, Text):
            for part in node.parts:
                now = _after(now, part, count)
        elif isinstance(node, Open | Close):
            now = _Known(now.tokens, sharp=False)
        if earlier is not None and not isinstance(graph.nodes[earlier], Fork | Sample):
            known[earlier] = _Known()  # nothing else goes on from there
        known.append(now)


def _after(now: _Known, part: Part, count: Count) -> _Known:
    """Counts the words that are whole, so that every text is counted once."""
    if isinstance(part, Ref):
        return _Known(now.tokens, sharp=False)
    tokens, run, sharp = now.tokens, now.run + part, now.sharp
    if not sharp and (first := _WORD.search(run, max(0, len(now.run) - 1))) is not None:
        run, sharp = run[first.start() :], True
    if sharp and (last := _last_word(run)):
        tokens, run = tokens + count(run[:last]), run[last:]
    return _Known(tokens, run, sharp) if len(run) <= MAX_WORD else _Known(tokens, run[-1:], False)


def _ending(now: _Known, count: Count) -> int:
    """Tokens of the run if nothing comes after it."""
    return count(now.run) if now.run and now.sharp else 0


_WORD = re.compile(r"(?<=\S) ")
MAX_WORD = 65_536
"""Characters without a space that are remembered; what is longer counts as nothing."""


def _last_word(text: str) -> int:
    """Where the last word begins; 0 if there is but one."""
    at = text.rfind(" ")
    while at > 0 and text[at - 1].isspace():
        at = text.rfind(" ", 0, at)
    return max(0, at)

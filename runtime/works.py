"""Identical deterministic work, done once: the common subexpressions of the programs of a batch.

Work is known by what goes in: the context's tokens and text, and the node without its name. While
one state does it, others that come to the same work wait, and take over what came out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np

from ramet.nodes import Gen, Node, Part, Score, Select
from ramet.runtime.context import Context
from ramet.runtime.core import EngineCore
from ramet.runtime.tokenizer import Piece
from ramet.runtime.values import Info


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the work left on the state that did it."""

    begun: int  # tokens that were there before
    tokens: tuple[int, ...]  # those after them
    pending: tuple[Piece, ...]
    generated: int  # tokens drawn
    text: str | None  # what the model wrote, if anything was appended
    value: object
    info: Info


@dataclass(eq=False, slots=True)
class Work:
    """Under way, or done; `waiting` are the states that wait, each with what wakes it."""

    outcome: Outcome | None = None
    failed: bool = False  # then everybody does it alone, and has an error of its own
    waiting: list[tuple[Context, Callable[[], None]]] = field(default_factory=list)


class Works:
    """The work of some runs: those of a batch, or one alone."""

    def __init__(self) -> None:
        self._works: dict[bytes, Work] = {}

    def find(self, key: bytes) -> Work | None:
        return self._works.get(key)

    def begin(self, key: bytes) -> Work:
        work = self._works[key] = Work()
        return work

    def end(self, key: bytes, context: Context, core: EngineCore) -> None:
        """Whoever did it is through, or was stopped: then somebody else has to begin again."""
        work = self._works[key]
        if work.outcome is None and not work.failed:
            del self._works[key]
        for waiting, wake in work.waiting:
            if waiting.ended:
                continue
            if work.outcome is not None and context.sequence is not None:
                _hand_over(context, waiting, core)
            wake()
        work.waiting.clear()


def work_key(
    context: Context, node: Node, spelled: Callable[[Iterable[Part]], str]
) -> bytes | None:
    """What the work is known by; None where a draw depends on its place in the program.

    `spelled` gives the text of parts whose values are all there.
    """
    match node:
        case Gen(params=params):
            fixed = params.temperature == 0 or params.seed is not None
        case Select(temperature=temperature):
            fixed = temperature == 0 or node.seed is not None
        case Score():
            fixed = True
        case _:
            fixed = False
    if not fixed:
        return None
    tokens = [] if context.sequence is None else context.sequence.tokens
    pieces: list[tuple[str, bool]] = []
    for piece in context.pending:
        if pieces and pieces[-1][1] == piece.control:
            pieces[-1] = (pieces[-1][0] + piece.text, piece.control)
        else:
            pieces.append((piece.text, piece.control))
    scored = spelled(node.parts) if isinstance(node, Score) else None
    bare = None if isinstance(node, Score) else replace(node, state=0, name="", span=None)
    digest = blake2b(repr((bare, scored, pieces)).encode("utf-8", "surrogatepass"), digest_size=16)
    digest.update(np.array(tokens, np.int64).tobytes())
    return digest.digest()


def _hand_over(done: Context, waiting: Context, core: EngineCore) -> None:
    """The state that waits goes on with the same blocks."""
    if waiting.sequence is not None:
        waiting.owned.discard(waiting.sequence)
        core.close(waiting.sequence)
    assert done.sequence is not None, "the caller looked"
    waiting.own(core.fork(done.sequence))

"""Which engine sequence a state has, and what of its text that spells. No generation, no choice.

Sequences are touched on the engine's thread only; `seen` by the one worker of the state.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ramet.compat.sglang.backend.base_backend import State
from ramet.compat.sglang.backend.work import Desk, Work
from ramet.runtime.errors import EngineClosed
from ramet.runtime.sequence import Sequence
from ramet.runtime.tokenizer import Piece, Tokenizer


@dataclass(eq=False, slots=True)
class Context:
    """What the engine has of a state."""

    sequence: Sequence | None = None
    seen: str = ""  # the part of the state's text that the sequence's tokens spell
    shared: Sequence | None = None  # all of the text, computed for branches to find

    def extend(self, desk: Desk, tokens: list[int]) -> Sequence:
        """The sequence with these tokens more."""
        if self.sequence is None:
            self.sequence = desk.open()
        self.sequence.tokens += tokens
        return self.sequence

    def release(self, desk: Desk) -> None:
        for each in (self.sequence, self.shared):
            if each is not None:
                desk.core.close(each)
        self.sequence = self.shared = None


class Rest(NamedTuple):
    """A state's context, and the tokens of the text that it does not have yet."""

    context: Context
    tokens: list[int]


class Contexts:
    """The contexts of all states of a backend. A state that nobody has any more loses its own."""

    def __init__(self, work: Work, tokenizer: Tokenizer, control_in_text: bool) -> None:
        self._work = work
        self._tokenizer = tokenizer
        self._control_in_text = control_in_text
        self._of: weakref.WeakKeyDictionary[State, Context] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._dropped: deque[Context] = deque()

    def of(self, s: State) -> Context:
        with self._lock:
            context = self._of.get(s)
            if context is None:
                context = self._of[s] = Context()
                weakref.finalize(s, self._dropped.append, context)
            return context

    def rest(self, s: State) -> Rest:
        """A text that was changed behind the state's back is begun anew."""
        context = self.of(s)
        if not s.text_.startswith(context.seen):
            self.forget(context)
        return Rest(context, self.encoded(context, self.pieces(s, context)))

    def encoded(self, context: Context, pieces: list[Piece]) -> list[int]:
        return self._tokenizer.encode(pieces, start=not context.seen)

    def pieces(self, s: State, context: Context) -> list[Piece]:
        """The rest of the state's text: what the template wrote, and what is plain."""
        start = len(context.seen)
        if self._control_in_text:
            return [Piece(s.text_[start:], control=True)]
        pieces = []
        for begin, end in s.template_spans:
            if end > start:
                begin = max(begin, start)
                pieces += [Piece(s.text_[start:begin]), Piece(s.text_[begin:end], control=True)]
                start = end
        return [*pieces, Piece(s.text_[start:])]

    def fork(self, src: State, dst: State) -> None:
        parent, child = self.of(src), self.of(dst)
        child.seen = parent.seen

        def share(desk: Desk) -> None:
            if parent.sequence is not None:
                child.sequence = desk.core.fork(parent.sequence)

        self.later(share)

    def forget(self, context: Context) -> None:
        """Give back what it holds; a text that goes on is computed, or found, anew."""
        context.seen = ""
        self.later(context.release)

    def end(self, s: State) -> None:
        with self._lock:
            context = self._of.pop(s, None)
        if context is not None:
            self.forget(context)

    def end_all(self) -> None:
        with self._lock:
            states = list(self._of)
        for s in states:
            self.end(s)

    def close(self, sequences: list[Sequence]) -> None:
        def call(desk: Desk) -> None:
            for each in sequences:
                desk.core.close(each)

        if sequences:
            self.later(call)

    def later(self, call: Callable[[Desk], None]) -> None:
        """Have it called on the engine's thread; a closed engine has nothing to give back."""

        def both(desk: Desk) -> None:
            while self._dropped:
                self._dropped.popleft().release(desk)
            call(desk)

        try:
            self._work.start(both)
        except EngineClosed:
            return

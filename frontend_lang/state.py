"""The state that a program writes on: append with `+=`, read with `[...]`, fork.

Turns what is appended into nodes and hands each to the recorder at once. Knows the variables that
are bound so far, and no value of any.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import groupby
from typing import Self, overload

from ramet.callsite import callsite
from ramet.errors import (
    AppendError,
    ArgumentError,
    GraphError,
    RametError,
    Span,
    UnknownVariable,
    shown,
)
from ramet.expressions import Generation, Selection, Term, Turn, terms_of
from ramet.nodes import Branch, Close, Fork, Gen, Node, Open, Ref, Role, Select, Text
from ramet.recorder import Recorder
from ramet.values import Gathered, Value, parts_for


class State:
    """A context that only grows, and the variables bound on it."""

    __slots__ = ("_at", "_names", "_recorder")

    def __init__(
        self, recorder: Recorder, at: int = 0, names: Mapping[str, int] | None = None
    ) -> None:
        self._recorder = recorder
        self._at = at  # the node after which the next one comes
        self._names = dict(names or {})  # variable -> the node that bound it last

    def __iadd__(self, item: Term) -> Self:
        self._append(terms_of(item), callsite())
        return self

    def __getitem__(self, name: str) -> Value:
        if name not in self._names:
            raise UnknownVariable(name, self._names, callsite())
        return Value(self._recorder, Ref(self._names[name]))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def system(self) -> AbstractContextManager[None]:
        """`with s.system():` makes what is appended inside a turn of that role."""
        return self._turn("system", callsite())

    def user(self) -> AbstractContextManager[None]:
        """`with s.user():` makes what is appended inside a turn of that role."""
        return self._turn("user", callsite())

    def assistant(self) -> AbstractContextManager[None]:
        """`with s.assistant():` makes what is appended inside a turn of that role."""
        return self._turn("assistant", callsite())

    @contextmanager
    def _turn(self, role: Role, span: Span | None) -> Generator[None]:
        self._add(Open(self._at, role, span=span))
        try:
            yield
        except Exception:
            with suppress(RametError):  # the block's own error is the one to see
                self._add(Close(self._at, role, span=span))
            raise
        self._add(Close(self._at, role, span=span))

    def fork(self, count: int) -> "Branches":
        """That many states which share everything so far and go on side by side."""
        span = callsite()
        _check_count(count, span)
        self._add(Fork(self._at, count, span=span))
        return Branches([self._branch(index, span) for index in range(count)])

    def _branch(self, index: int, span: Span | None) -> "State":
        branch = State(self._recorder, self._at, self._names)
        branch._add(Branch(self._at, index, span=span))
        return branch

    def _append(self, terms: tuple[Term, ...], span: Span | None) -> None:
        """Neighbouring texts and values of one expression are one `Text`."""
        for is_text, row in groupby(terms, key=lambda term: isinstance(term, str | Value)):
            if not is_text:
                for term in row:
                    self._append_one(term, span)
            elif parts := parts_for(row, self._recorder):
                self._add(Text(self._at, parts, span=span))

    def _append_one(self, term: Term, span: Span | None) -> None:
        match term:
            case Generation(name, params):
                self._names[name] = self._add(Gen(self._at, name, params, span=span))
            case Selection(name, options, by, temperature, seed):
                node = Select(self._at, name, options, by, temperature, seed, span=span)
                self._names[name] = self._add(node)
            case Turn(role, content):
                self._add(Open(self._at, role, span=span))
                self._append(terms_of(content), span)
                self._add(Close(self._at, role, span=span))
            case _:
                raise AssertionError(f"{type(term).__name__} is no term")

    def _add(self, node: Node) -> int:
        try:
            self._at = self._recorder.add(node)
        except GraphError as error:
            raise error.at(node.span) from None
        return self._at


class Branches:
    """The branches of one fork."""

    __slots__ = ("_states",)

    def __init__(self, states: Sequence[State]) -> None:
        self._states = tuple(states)

    def __len__(self) -> int:
        return len(self._states)

    @overload
    def __getitem__(self, key: int) -> State: ...
    @overload
    def __getitem__(self, key: slice) -> "Branches": ...
    @overload
    def __getitem__(self, key: str) -> Gathered: ...
    def __getitem__(self, key: int | slice | str) -> "State | Branches | Gathered":
        """A number gives the branch, a name the list of that variable over the branches."""
        if isinstance(key, str):
            return Gathered([state[key] for state in self._states])
        if isinstance(key, slice):
            return Branches(self._states[key])
        return self._states[key]

    def __setitem__(self, index: int, state: State) -> None:
        """Only what `branches[i] += ...` does: put back the branch that was there."""
        if state is not self._states[index]:
            raise AppendError("a branch cannot be replaced; append to it with +=", callsite())

    def __iter__(self) -> Iterator[State]:
        return iter(self._states)


def _check_count(count: object, span: Span | None) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise ArgumentError(f"fork needs a whole number, not {shown(count)}", span)

"""The state that a program writes on: append with `+=`, read with `[...]`, fork, keep.

Turns what is appended into nodes and hands each to the recorder at once. Knows the variables that
are bound so far, and no value of any.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from itertools import groupby
from typing import Any, Self, cast, overload

from ramet.callsite import callsite
from ramet.default import current
from ramet.errors import (
    AppendError,
    ArgumentError,
    GraphError,
    RametError,
    Span,
    UnknownVariable,
    shown,
)
from ramet.expressions import Expression, Generation, Scored, Selection, Term, Turn, score, terms_of
from ramet.nodes import (
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Keep,
    Node,
    Open,
    Ref,
    Role,
    Sample,
    Score,
    Select,
    Text,
)
from ramet.recorder import Recorder
from ramet.values import Gathered, Value, known, parts_for


class State:
    """A context that only grows, and the variables bound on it."""

    __slots__ = ("_at", "_names", "_recorder")

    def __init__(
        self, recorder: Recorder, at: int = 0, names: Mapping[str, int] | None = None
    ) -> None:
        self._recorder = recorder
        self._at = at  # the node after which the next one comes
        self._names = dict(names or {})  # variable -> the node that bound it last

    def __del__(self) -> None:
        self._recorder.dropped(self._at)

    def __iadd__(self, item: Term) -> Self:
        self._append(terms_of(item), callsite())
        return self

    def __getitem__(self, name: str) -> Value:
        if name not in self._names:
            raise UnknownVariable(name, self._names, callsite())
        return Value(self._recorder, Ref(self._names[name]))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def info(self, name: str) -> Any:
        """What is known of a variable besides its value, as `prob` and `text`; waits for it."""
        return known(self[name])

    def system(self) -> AbstractContextManager[None]:
        """`with s.system():` makes what is appended inside a turn of that role."""
        return self.turn("system")

    def user(self) -> AbstractContextManager[None]:
        """`with s.user():` makes what is appended inside a turn of that role."""
        return self.turn("user")

    def assistant(self) -> AbstractContextManager[None]:
        """`with s.assistant():` makes what is appended inside a turn of that role."""
        return self.turn("assistant")

    @contextmanager
    def turn(self, role: Role) -> Generator[None]:
        """What is appended inside is a turn of that role."""
        span = callsite()
        self._add(Open(self._at, role, span=span))
        try:
            yield
        except Exception:
            with suppress(RametError):  # the block's own error is the one to see
                self._add(Close(self._at, role, span=span))
            raise
        self._add(Close(self._at, role, span=span))

    def score(self, name: str, content: Term) -> Value:
        """Bind the log-probability of the content as a continuation; nothing is appended."""
        self._append((score(name, content),), callsite())
        return self[name]

    def fork(self, over: int | Sequence[Any]) -> "Branches":
        """That many states, or one for each item, which share everything so far and go on side by
        side."""
        span = callsite()
        items = _items(over, span)
        self._add(Fork(self._at, len(items), span=span))
        return Branches(self._branches(len(items), span), items)

    def branch(self, generation: Expression) -> "Branches":
        """Draw the `n` samples of a `gen`, or its beams; each goes on as a branch of its own."""
        span = callsite()
        if not isinstance(generation, Generation):
            raise AppendError(f"branch needs a gen(...), not {shown(generation)}", span)
        node = Sample(self._at, generation.name, generation.params, generation.type, span=span)
        self._add(node)
        states = self._branches(node.count, span)
        for state in states:
            state._names[node.name] = state._at
        return Branches(states, range(node.count))

    def keep(self, branch: Any) -> None:
        """Become that branch; the other branches of its fork are released at once."""
        span = callsite()
        if not isinstance(branch, State):
            raise AppendError(f"keep needs a branch, not {shown(branch)}", span)
        if branch._recorder is not self._recorder:
            raise AppendError("this branch belongs to another run of a program", span)
        try:
            self._add(Keep(self._at, branch._at, span=span))
        except GraphError as error:
            broken = (_KEEP[each.law] for each in error.breaks if each.law in _KEEP)
            raise GraphError(next(broken, error.message), breaks=error.breaks).at(span) from None
        self._names = dict(branch._names)

    def begin(self, program: str) -> "State":
        """An empty state of the same run, for another program that is called from here."""
        span = callsite()
        return State(self._recorder, self._entered(Call(self._at, program, span=span)))

    @property
    def recorder(self) -> Recorder:
        """Who takes the nodes."""
        return self._recorder

    @property
    def variables(self) -> dict[str, Value]:
        """Every variable that is bound so far."""
        return {name: self[name] for name in self._names}

    def _branches(self, count: int, span: Span | None) -> "list[State]":
        begun = [self._entered(Branch(self._at, index, span=span)) for index in range(count)]
        return [State(self._recorder, id, self._names) for id in begun]

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
            case Generation(name, params, type):
                self._names[name] = self._add(Gen(self._at, name, params, type, span=span))
            case Scored(name, content):
                parts = parts_for(terms_of(content), self._recorder)
                self._names[name] = self._add(Score(self._at, name, parts, span=span))
            case Selection(name, options, by, temperature, seed):
                node = Select(self._at, name, options, by, temperature, seed, span=span)
                self._names[name] = self._add(node)
            case Turn(role, content):
                self._add(Open(self._at, role, span=span))
                self._append(terms_of(content), span)
                self._add(Close(self._at, role, span=span))
            case _:
                raise AssertionError(f"{term!r} is no term")

    def _add(self, node: Node) -> int:
        self._at = self._entered(node)
        return self._at

    def _entered(self, node: Node) -> int:
        try:
            return self._recorder.add(node)
        except GraphError as error:
            raise error.at(node.span) from None


_KEEP = {
    "branch_is_live": "a branch of this fork is kept already; keep takes one, and once",
    "branch_is_own": "keep takes a branch of this state, and this is none",
    "state_is_at_its_fork": "something was appended since the fork, and keep would lose it; "
    "keep first, then append",
}
"""What the laws of a `Keep` say to the person who writes one."""


class Branches:
    """The branches of one fork, each with the item that it was made for, or its number."""

    __slots__ = ("_items", "_states")

    def __init__(self, states: Sequence[State], items: Sequence[Any]) -> None:
        self._states = tuple(states)
        self._items = items

    def each(self, body: Callable[[State, Any], object]) -> Self:
        """Run `body(branch, item)` for every branch, side by side.

        In a plain loop a branch that looks at a value keeps those after it waiting; here it does
        not.
        """
        if self._states:
            pairs = zip(self._states, self._items, strict=True)
            self._states[0].recorder.together([partial(_run, body, *pair) for pair in pairs])
        return self

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
            return Branches(self._states[key], self._items[key])
        return self._states[key]

    def __setitem__(self, index: int, state: State) -> None:
        """Only what `branches[i] += ...` does: put back the branch that was there."""
        if state is not self._states[index]:
            raise AppendError("a branch cannot be replaced; append to it with +=", callsite())

    def __iter__(self) -> Iterator[State]:
        return iter(self._states)


def _run(body: Callable[[State, Any], object], state: State, item: object) -> None:
    with current(state):
        body(state, item)


def _items(over: object, span: Span | None) -> Sequence[Any]:
    if isinstance(over, int) and not isinstance(over, bool):
        return range(over)
    if isinstance(over, bool | str | bytes) or not isinstance(over, Iterable):
        raise ArgumentError(f"fork needs a whole number or a list, not {shown(over)}", span)
    return list(cast("Iterable[Any]", over))

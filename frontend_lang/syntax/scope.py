"""What the names of a running program stand for: plain values, lazy values, groups of branches."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from ramet.callsite import placed
from ramet.errors import EvaluationError, Span
from ramet.expressions import Expression, Sum
from ramet.meter import Meter
from ramet.spelling import plain
from ramet.state import State
from ramet.syntax.functions import Refused, hold_text
from ramet.values import Value, is_attribute, is_made

Names = dict[str, Any]

MAX_NESTED = 1_000_000  # items of a value, those in its lists and maps included
MAX_CHARACTERS = 10_000_000  # of the texts in a list or map


class Row(list[Any]):
    """A variable over the branches of a fork; its items may be lazy, or rows themselves."""


class BranchNames(Names):
    """What the names of a branch stand for; at first, what they stood for at its fork."""

    __slots__ = ("_bound",)

    def __init__(self, inherited: Names) -> None:
        super().__init__(inherited)
        self._bound: dict[str, None] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        self._bound[name] = None
        super().__setitem__(name, value)

    @property
    def bound(self) -> Names:
        """The names that the branch bound itself, also to what they stood for before."""
        return {name: self[name] for name in self._bound}


@dataclass(slots=True)
class BranchOf:
    """One branch of a group: its state, and what its names stand for."""

    state: State | None  # None where no statement of the program can keep it
    names: BranchNames


@dataclass(slots=True)
class Group:
    """The branches of one fork."""

    branches: Sequence[BranchOf] = field(default_factory=list)

    def gathered(self, name: str) -> Row:
        """That variable over the branches; `KeyError` if one of them has it not."""
        return Row(branch.names[name] for branch in self.branches)


def looked(value: Value) -> Any:
    """The value itself, after waiting for it; records in its attributes are maps, and so are
    instances of classes, which only a program in Python has."""
    found = value.look()
    if is_attribute(value):
        return _plain(found)
    return plain(found) if is_made(value) else found


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def written_out(value: Expression) -> str:
    """A lazy text, after waiting for the values in it; `Refused` if it is too long."""
    parts: list[str] = []
    size = 0
    for term in value.terms if isinstance(value, Sum) else (value,):
        parts.append(str(term))
        size += len(parts[-1])
        hold_text(size)
    return "".join(parts)


def settled(value: Any, span: Span, meter: Meter) -> Any:
    """The value itself, after waiting for whatever in it is lazy; the items in it are counted.

    Raises:
        EvaluationError: it nests too deeply, is too large in all, or a branch is in it.
    """
    reading = _Reading()
    try:
        with placed(span):
            found = reading.plain(value)
    except Refused as refused:
        raise EvaluationError(str(refused), span) from None
    except RecursionError:
        raise EvaluationError("the value nests too deeply", span) from None
    meter.made(reading.items, span)
    return found


@dataclass(slots=True)
class _Reading:
    """What is read of one value. A list that stands in it many times is read as often."""

    items: int = 0
    characters: int = 0  # of the texts in its lists and maps

    def plain(self, value: Any) -> Any:
        if isinstance(value, Value):
            return self.plain(looked(value))
        if isinstance(value, Expression):
            return written_out(value)
        if isinstance(value, list | tuple):
            self._hold(value)  # pyright: ignore[reportUnknownArgumentType]
            return [self._item(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, dict):
            self._hold(value)  # pyright: ignore[reportUnknownArgumentType]
            return {key: self._item(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, Group | BranchOf):
            raise Refused("a branch has no value; name one of its variables")
        return value

    def _item(self, item: Any) -> Any:
        if type(item) is str:
            self.characters += len(item)
            if self.characters > MAX_CHARACTERS:
                raise Refused(f"a value with more than {MAX_CHARACTERS:,} characters in all")
            return item
        return item if type(item) in _NUMBERS else self.plain(item)

    def _hold(self, row: Sequence[Any] | dict[Any, Any]) -> None:
        self.items += len(row)
        if self.items > MAX_NESTED:
            raise Refused(f"a value with more than {MAX_NESTED:,} items in all")


_NUMBERS = frozenset({int, float, bool, type(None)})

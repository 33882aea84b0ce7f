"""What the names of a running program stand for: plain values, lazy values, groups of branches."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from ramet.expressions import Expression
from ramet.state import State
from ramet.values import Value

Names = dict[str, Any]


class Row(list[Any]):
    """A variable over the branches of a fork; its items may be lazy, or rows themselves."""


@dataclass(slots=True)
class BranchOf:
    """One branch of a group: its state, and what its names stand for."""

    state: State | None  # None where no statement of the program can keep it
    names: Names
    inherited: Names  # what they stood for at the fork

    @property
    def bound(self) -> Names:
        """The names that the branch bound itself."""
        old = self.inherited
        return {n: v for n, v in self.names.items() if n not in old or old[n] is not v}


@dataclass(slots=True)
class Group:
    """The branches of one fork."""

    branches: Sequence[BranchOf] = field(default_factory=list)

    def gathered(self, name: str) -> Row:
        """That variable over the branches; `KeyError` if one of them has it not."""
        return Row(branch.names[name] for branch in self.branches)


def looked(value: Value) -> Any:
    """The value itself, after waiting for it; records in its attributes are maps."""
    found = value.look()
    return _plain(found) if value.is_attribute else found


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def settled(value: Any) -> Any:
    """The value itself, after waiting for whatever in it is lazy."""
    if isinstance(value, Value):
        return settled(looked(value))
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, list | tuple):
        return [settled(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: settled(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value

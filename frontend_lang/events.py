"""What a run tells while it goes on: frozen records.

A `path` is a state: "" for the program's own, else its place in the forks and calls, as in "/2.0".
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A state comes to a node. What the node reads may not be there yet."""

    node: int
    kind: str  # as the JSON of a graph spells it
    name: str | None  # of its variable, if it has one
    path: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text that a generation released."""

    node: int
    name: str
    path: str
    text: str
    sample: int = 0  # which of a node's n samples
    tokens: tuple[int, ...] = field(default=(), repr=False)  # drawn since the one before, if known


@dataclass(frozen=True, slots=True)
class ValueBound:
    """A variable got its value."""

    node: int
    name: str
    path: str
    value: object
    info: Any = field(default=None, repr=False, compare=False)  # how it came about, if known


@dataclass(frozen=True, slots=True)
class BranchOpened:
    """A branch begins to run, or a program that was called; it shares what its parent has."""

    path: str


@dataclass(frozen=True, slots=True)
class BranchKept:
    """The state that it parted from goes on as this branch."""

    path: str


@dataclass(frozen=True, slots=True)
class BranchReleased:
    """Another branch was kept, and this one ends where it is."""

    path: str


Event: TypeAlias = NodeStarted | TextDelta | ValueBound | BranchOpened | BranchKept | BranchReleased

"""What a run tells while it goes on: frozen records."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text that a generation released."""

    node: int
    name: str
    path: str  # the state it is written on: "" for the program's own, else its place in the forks
    text: str
    sample: int = 0  # which of a node's n samples


@dataclass(frozen=True, slots=True)
class ValueBound:
    """A variable got its value."""

    node: int
    name: str
    path: str
    value: object


Event = TextDelta | ValueBound

"""What a run tells: the records are the language's, since a client of a server gets the same."""

from ramet.events import (
    BranchKept,
    BranchOpened,
    BranchReleased,
    Event,
    NodeStarted,
    TextDelta,
    ValueBound,
)

__all__ = [
    "BranchKept",
    "BranchOpened",
    "BranchReleased",
    "Event",
    "NodeStarted",
    "TextDelta",
    "ValueBound",
]

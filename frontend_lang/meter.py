"""Counts what one run takes, against its limits. Knows no clock but the one it is given."""

import time
from collections.abc import Callable
from math import inf

from ramet.errors import Span
from ramet.limits import Limits

SLICE = 0.005
"""Seconds that a body may compute before others get their turn."""


class Meter:
    """What a run took so far; every method raises `LimitError` once a limit is passed.

    `pause` is called from a body that has computed for longer than a slice.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._ends = clock() + limits.seconds
        self._slice_ends = inf
        self.pause: Callable[[], None] | None = None
        self._steps = self._made = self._branches = self._live = self._tokens = 0

    def step(self, span: Span | None = None) -> None:
        """A turn of a loop."""
        self._steps += 1
        self.limits.hold("steps", self._steps, span)
        self.go_on(span)

    def go_on(self, span: Span | None = None) -> None:
        """Something that may take a while is about to be computed."""
        self.check_time(span)
        if self.pause is not None and self._clock() > self._slice_ends:
            self.pause()

    def begin_slice(self) -> None:
        """The body goes on at this moment."""
        self._slice_ends = self._clock() + SLICE

    def made(self, size: int, span: Span | None = None) -> None:
        """An expression made that many characters, or items."""
        self._made += size
        self.limits.hold("made", self._made, span)

    def begin(self, branches: int, span: Span | None = None) -> None:
        """That many branches, or calls, begin."""
        self._branches += branches
        self._live += branches
        self.limits.hold("branches", self._branches, span)
        self.limits.hold("live_branches", self._live, span)

    def end(self, branches: int) -> None:
        """That many branches are released."""
        self._live -= branches

    def token(self, count: int = 1) -> None:
        """That many tokens are generated."""
        self._tokens += count
        self.limits.hold("tokens", self._tokens)

    def check_time(self, span: Span | None = None) -> None:
        """The run goes on at this moment."""
        if self.late:
            self.limits.hold("seconds", inf, span)

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self._clock() > self._ends

"""Where generated text ends, and how much of it may be shown before that is known.

Knows the text of one sequence as it grows. Knows no tokens but their number, and no model.
"""

import math
import re
import time
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple, Self

import regex

from ramet.params import SamplingParams
from ramet.runtime.errors import GenerationError, RequestError

# Ordinary patterns take microseconds. These bound what a hostile one costs everybody else: one
# check, all the checks of one text that took longer than a millisecond, and those of all texts
# together, which get a tenth of the time.
_SECONDS_A_CHECK = 0.1
_SECONDS_A_TEXT = 1.0
_SLOW_SECONDS = 0.001
_SECONDS_OF_ALL = 1.0
_SHARE_OF_ALL = 0.1
# `regex` writes out least counts when it compiles, at some 280 bytes a step: 70 MiB at most.
_LARGEST_PATTERN = 2**18
_COUNT = re.compile(r"\{(\d+)")


@dataclass(frozen=True, slots=True)
class Release:
    """What a piece of text comes to."""

    text: str  # may be shown now: what was held and is free, and what came, up to what is held
    stop: str | None = None  # the stop that was found: the string, or the pattern
    cut: int | None = None  # where the text ends, counted in characters from its beginning

    @property
    def stopped(self) -> bool:
        return self.stop is not None


class StopChecker:
    """Finds the first stop in a text that arrives in pieces.

    The text ends before the stop that is *complete* first, character by character; of several
    complete at one character, before the one that begins first. So it does not matter how the text
    was cut into pieces. A `stop_regex` is complete at the end of the shortest text in which it is
    found: it is asked after each character, and `$` is the end of the text so far.

    Held back is only what may be the beginning of a stop: for strings less than the longest of
    them, for a pattern as much as it may still match. A stop that is complete while the sequence
    has fewer than `min_tokens` tokens is text.

    Raises `RequestError` for a pattern that the `regex` module does not take, or that would take
    too much memory.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._stops = (params.stop,) if isinstance(params.stop, str) else tuple(params.stop)
        self._pattern = None if params.stop_regex is None else _Pattern(params.stop_regex)
        self._min_tokens = params.min_tokens
        self._held = ""
        self._released = 0

    def push(self, delta: str, tokens: int) -> Release:
        """What may be shown now that `delta` came and the sequence has this many tokens.

        After a stop nothing may be pushed. Raises `GenerationError` when the pattern takes too
        long.
        """
        ignore = tokens < self._min_tokens
        found = [] if ignore else self._strings(delta)
        if self._pattern is not None:
            found += self._pattern.feed(delta, ignore)
        text = self._held + delta
        if found:
            stop = min(found, key=lambda stop: (stop.end, stop.start))
            return Release(text[: stop.start - self._released], stop.name, stop.start)
        free = len(text) - self._unsure(text)
        self._held = text[free:]
        self._released += free
        return Release(text[:free])

    def finish(self, delta: str, tokens: int) -> Release:
        """`push` of the last piece: nothing follows, so nothing is held."""
        last = self.push(delta, tokens)
        held, self._held = self._held, ""
        return last if last.stopped else Release(last.text + held)

    def copy(self) -> Self:
        """One with the same past, for a branch."""
        other = copy(self)
        other._pattern = copy(self._pattern)
        return other

    def _strings(self, delta: str) -> list["_Stop"]:
        """Where each string that the new text completes is first."""
        text, known = self._held + delta, len(self._held)
        found = [(stop, text.find(stop, max(0, known + 1 - len(stop)))) for stop in self._stops]
        return [
            _Stop(stop, self._released + at, self._released + at + len(stop))
            for stop, at in found
            if at >= 0
        ]

    def _unsure(self, text: str) -> int:
        """How many characters at the end may begin a stop."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        ends = (text[-size:] for size in range(min(longest, len(text)), 0, -1))
        strings = next((len(end) for end in ends if self._begins_a_stop(end)), 0)
        pattern = 0 if self._pattern is None else self._pattern.unsure
        return max(strings, pattern)

    def _begins_a_stop(self, text: str) -> bool:
        return any(len(text) < len(stop) and stop.startswith(text) for stop in self._stops)


class _Stop(NamedTuple):
    """A stop that is complete: from `start` to `end` in the whole text."""

    name: str
    start: int
    end: int


class _Pattern:
    """A pattern that is searched for after each character.

    No match can begin before `_since`: `regex` tells where a match begins that needs more text.
    """

    def __init__(self, pattern: str) -> None:
        counts = [int(count) for count in _COUNT.findall(pattern)]
        if len(pattern) * math.prod(max(1, count) for count in counts) > _LARGEST_PATTERN:
            raise RequestError(f"stop_regex {pattern!r} repeats too much: {counts} times")
        try:
            self._regex = regex.compile(pattern)
        except (regex.error, RecursionError) as error:
            raise RequestError(f"stop_regex {pattern!r}: {error}") from error
        self._text = ""
        self._since = 0
        self._spent = 0.0

    @property
    def unsure(self) -> int:
        """How many characters at the end may begin a match."""
        return len(self._text) - self._since

    def feed(self, delta: str, ignore: bool) -> list[_Stop]:
        """The first match of the text with this added, if there is one; `ignore` passes over it."""
        known = len(self._text)
        self._text += delta
        for end in range(known + 1, len(self._text) + 1):
            match = self._search(end)
            if match is None:
                self._since = end
            elif match.partial:
                self._since = match.start()
            elif ignore:
                self._since = match.end()
            else:
                return [_Stop(self._regex.pattern, match.start(), end)]
        return []

    def _search(self, end: int) -> "regex.Match[str] | None":
        begin = time.perf_counter()
        left = min(_SECONDS_A_CHECK, _SECONDS_A_TEXT - self._spent, _of_all.left(begin))
        try:
            match = self._regex.search(self._text, self._since, end, partial=True, timeout=left)
        except TimeoutError as error:
            _of_all.take(time.perf_counter() - begin)
            raise GenerationError(
                f"stop_regex {self._regex.pattern!r} takes too long to match: "
                f"more than {left:.2f} s at character {end}"
            ) from error
        elapsed = time.perf_counter() - begin
        if elapsed > _SLOW_SECONDS:
            self._spent += elapsed
            _of_all.take(elapsed)
        return match


class _OfAll:
    """What slow checks of all texts may take together, by now."""

    def __init__(self) -> None:
        self._left, self._at = _SECONDS_OF_ALL, time.perf_counter()

    def left(self, now: float) -> float:
        """Seconds for the next one; an ordinary check has its time always."""
        self._left = min(_SECONDS_OF_ALL, self._left + _SHARE_OF_ALL * (now - self._at))
        self._at = now
        return max(_SLOW_SECONDS, self._left)

    def take(self, seconds: float) -> None:
        self._left -= seconds


_of_all = _OfAll()

"""Where in a person's file the running statement stands. Knows frames, and which files are ours."""

import linecache
import os
import sys
from contextvars import ContextVar
from importlib.util import find_spec
from itertools import islice
from types import FrameType

from ramet.errors import Span

_ROOMS = ("ramet", "ramet.cache", "ramet.compat", "ramet.kernels", "ramet.runtime")


def _folders() -> tuple[str, ...]:
    """Of every room that is installed, wherever it lies; none is imported."""
    specs = filter(None, map(find_spec, _ROOMS))
    places = (place for spec in specs for place in spec.submodule_search_locations or ())
    return tuple(os.path.join(place, "") for place in places)


_OURS = _folders()

_placed: ContextVar[Span | None] = ContextVar("ramet_place", default=None)


class placed:  # a class, and no generator: entered for every statement, it costs a third
    """Inside, that is the place: of a statement that is no Python. None: frames tell it again."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._token = _placed.set(self._span)

    def __exit__(self, *exception: object) -> None:
        _placed.reset(self._token)


def callsite() -> Span | None:
    """The place of the innermost call that does not lie in this package; None if there is none."""
    if (span := _placed.get()) is not None:
        return span
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    return None if frame is None else _place(frame)


def _place(frame: FrameType) -> Span:
    file, line = frame.f_code.co_filename, frame.f_lineno
    positions = frame.f_code.co_positions()
    # two bytes an instruction; a column counts bytes from 0, or is None
    column = next(islice(positions, frame.f_lasti // 2, None))[2] or 0
    return Span(file, line, _characters(file, line, column) + 1)


def _characters(file: str, line: int, column: int) -> int:
    text = linecache.getline(file, line)
    return column if text.isascii() else len(text.encode()[:column].decode(errors="ignore"))

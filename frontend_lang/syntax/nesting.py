"""How deep a program nests while it is scanned, so that a tower is refused before it is parsed."""

from dataclasses import dataclass

from ramet.limits import Limits
from ramet.syntax.source import Source

_PREFIXES = ("MINUS", "PLUS", "NOT")
_SLACK = 2  # a first sign that is binary, an empty list that is no index


@dataclass(slots=True)
class _Level:
    """The chains of operators right inside one bracket; each counts at most what it nests."""

    signs: int = 0
    links: int = 0  # .name and [key]
    choices: int = 0


class Nesting:
    """Counts the blocks, brackets and holes around a point.

    Chains of operators are counted from below: what is refused is too deep for sure, and the exact
    depth of what is not is that of its tree.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._indents: list[int] = []
        self._levels: list[_Level] = []
        self.blocks = 0  # around the line

    def line(self, indent: int, at: int) -> None:
        """A line begins there, after that many blanks."""
        indents = self._indents
        while indents and indents[-1] >= indent:
            indents.pop()
        self.blocks = len(indents)
        indents.append(indent)
        self._levels = [_Level()]
        if self.blocks > self._limits.nesting:
            self._refuse(self.blocks, at)

    def open(self, at: int, index: bool = False) -> None:
        """A bracket or a hole opens there."""
        if index:
            self._levels[-1].links += 1
        self._levels.append(_Level())
        self._hold(0, at)

    def close(self) -> None:
        self._levels.pop()

    def token(self, kind: str, value: str, at: int) -> None:
        """Any token but an opening bracket."""
        level = self._levels[-1]
        if kind == "NAME":
            level.signs = 0
            if value == "limit":
                level.choices = 0
            return
        level.signs = level.signs + 1 if kind in _PREFIXES else 0
        if kind == "DOT":
            level.links += 1
        elif kind != "RSQB":
            level.links = 0
        if kind == "ELSE":
            level.choices += 1
        elif kind in ("COMMA", "COLON"):
            level.choices = 0
        chain = max(level.signs, level.links, level.choices)
        if chain > _SLACK:
            self._hold(chain - _SLACK, at)

    def _hold(self, chain: int, at: int) -> None:
        depth = self.blocks + len(self._levels) - 1 + chain
        if depth > self._limits.nesting:
            self._refuse(depth, at)

    def _refuse(self, depth: int, at: int) -> None:
        self._limits.hold("nesting", depth, self._source.span(at))

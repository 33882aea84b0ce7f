"""What tenants share: paths of full blocks that were declared public. Knows tokens and scopes; no
block, no table and no key.

A full block is public if all tokens through it are the beginning of a public prefix. So where a
public block ends, the tokens of the next one decide about it alone: it goes on in public, or it is
behind a *door*, one for each scope, and so is all that builds on it. A door is compared as it is:
the place in the tree of public paths, which stands for the tokens before it, and the scope.
"""

from collections.abc import Sequence
from typing import NamedTuple

PUBLIC = 0
"""What stands before the first public block: the serial that no block has."""


class PublicPath:
    """The place behind some full public blocks, or the start of all of them."""

    __slots__ = ("_below", "is_start")

    def __init__(self, *, is_start: bool = True) -> None:
        self.is_start = is_start
        self._below: dict[tuple[int, ...], PublicPath] = {}

    def declare(self, tokens: Sequence[int], size: int) -> int:
        """Make the full blocks of `tokens` public, from this place on; returns how many."""
        count, place = len(tokens) // size, self
        for start in range(0, count * size, size):
            chunk = tuple(tokens[start : start + size])
            place = place._below.setdefault(chunk, PublicPath(is_start=False))
        return count

    def on(self, tokens: Sequence[int]) -> "PublicPath | None":
        """The place behind a block of `tokens` that stands here; None if it is not public."""
        return self._below.get(tuple(tokens)) if self._below else None

    @property
    def ends(self) -> bool:
        """Whether no public block stands here."""
        return not self._below

    def ways(self) -> list[tuple[tuple[int, ...], "PublicPath"]]:
        """The public blocks that stand here, and the places behind them."""
        return list(self._below.items())

    def door(self, scope: bytes) -> "bytes | Door":
        """What stands before a block here that is not public: at the start, the scope alone."""
        return scope if self.is_start else Door(self, scope)

    def walk(self) -> "list[PublicPath]":
        """This place and all behind it, a place before those behind it."""
        found: list[PublicPath] = [self]
        for place in found:
            found += place._below.values()
        return found


class Door(NamedTuple):
    """Where blocks of one scope leave a public path."""

    place: PublicPath
    scope: bytes

"""One block and what is known about it. Knows no pool, no table and no tensor.

A block goes round: blank, then open (some tokens committed, more to come), then sealed (full,
published, never written again), then blank once more when it is reused.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ramet.cache.public import Door, PublicPath

# What stands before a block: the serial of the sealed block there; at the start the scope, or
# PUBLIC; where a scope's own blocks follow a public one, the door there.
Identity = int | bytes | Door


class Copy(NamedTuple):
    """Copy the keys and values of the first `tokens` slots of block `source` into `target`."""

    source: int
    target: int
    tokens: int


class Block:
    """A slot of the pool.

    `tokens` are the ids whose keys and values are committed here, while the block is open too.
    `serial` is given at publication and never used again: it tells this content from whatever the
    same block held before or holds later, so a child that names its parent's serial cannot be
    taken for the child of a recycled block.
    """

    __slots__ = (
        "found", "id", "key", "maker", "owners", "parent", "pins", "public", "serial", "tokens",
    )  # fmt: skip

    def __init__(self, id: int) -> None:
        self.id = id
        self.owners = 0  # tables that hold it
        self.pins: list[int] = []  # copies in flight that read it: how many slots each
        self.blank()

    def blank(self) -> None:
        """Forget the content. Who holds the block is not touched."""
        self.tokens: list[int] = []
        self.parent: Identity | None = None  # None until something was committed here
        self.serial = 0  # 0 until published
        self.key = b""  # set with the serial
        self.public: PublicPath | None = None  # the place behind it, if it is public
        self.maker = ""  # who computed it, as its table said; set with the serial
        self.found = 0  # tokens that tables found here and had not to compute

    def __repr__(self) -> str:
        return (
            f"Block({self.id}, owners={self.owners}, pins={self.pins}, tokens={self.tokens}, "
            f"parent={self.parent!r}, serial={self.serial})"
        )


def before(serial: int, public: PublicPath | None, scope: bytes, tokens: Sequence[int]) -> Identity:
    """What stands before a table's block that holds `tokens`; any that are no full block are
    private. `serial` and `public` are those of the table's block before it, or of the start."""
    if public is None:
        return serial or scope
    return public.door(scope) if public.on(tokens) is None else serial


def common(left: list[int], right: list[int]) -> int:
    """The length of the longest common beginning."""
    for place, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return place
    return min(len(left), len(right))

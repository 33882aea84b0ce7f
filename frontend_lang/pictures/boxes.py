"""What a laid-out picture is made of: boxes, lines of text, edges. All measures are pixels."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ramet.nodes import Role
from ramet.pictures.labels import Label, Style

EdgeKind: TypeAlias = Literal["flow", "call", "reference", "keep"]
Point: TypeAlias = tuple[int, int]

PAD = 10  # inside frames and lanes
HEAD = 23  # of a frame or a lane: its title


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; y grows downward."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class Row:
    """One node on a card: its heading, if it has one, over a few lines."""

    node: int
    label: Label
    lines: tuple[str, ...]
    style: Style
    top: int  # from the top of the card
    height: int


@dataclass(frozen=True, slots=True)
class CardBox:
    """Nodes that are drawn together."""

    box: Box
    kind: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """A turn of the chat, around what it holds."""

    box: Box
    role: Role
    opened: int | None  # the node; None where a kept branch's turn goes on
    closed: int | None  # the node; None where a lane's end, or a `Keep`, ends it


@dataclass(frozen=True, slots=True)
class LaneBox:
    """A branch, or a program that is called, around what it holds."""

    box: Box
    node: int
    label: Label
    kept: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """A line through these points; the first is where its arrow points, if it has one."""

    kind: EdgeKind
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is to be drawn, from the back to the front; outer areas before inner ones."""

    width: int
    height: int
    title: str
    areas: tuple[Frame | LaneBox, ...]
    edges: tuple[Edge, ...]
    cards: tuple[CardBox, ...]

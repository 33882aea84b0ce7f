"""A graph taken apart into lanes: one for each state, with what stands on it from top to bottom.

Assumes a legal graph. Knows nothing of places, sizes or words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ramet.nodes import (
    Branch,
    Call,
    Close,
    Input,
    Keep,
    Node,
    Open,
    Ref,
    Role,
    Root,
    Score,
    Step,
    Text,
)


@dataclass(frozen=True, slots=True)
class Card:
    """Nodes that stand together: neighbouring texts, or any other one alone."""

    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TurnBegins:
    """`node` is the `Open`; None where the turn of a kept branch goes on."""

    role: Role
    node: int | None


@dataclass(frozen=True, slots=True)
class TurnEnds:
    """`node` is the `Close`; None where the lane or a `Keep` ends it."""

    node: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """The branches of one fork, or programs called from one place; lanes side by side."""

    kind: Literal["branch", "call"]
    lanes: tuple[int, ...]


Item: TypeAlias = Card | TurnBegins | TurnEnds | Group


@dataclass(slots=True)
class Lane:
    """One state, from the node where it begins to where it ends."""

    begin: int
    depth: int
    kept: bool = False  # a `Keep` went on with it
    nodes: list[int] = field(default_factory=list)  # without `begin`
    items: list[Item] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Structure:
    """Lanes by the order of their beginnings: the first is the program's own, children later."""

    nodes: Sequence[Node]
    lanes: list[Lane]
    lane_of: list[int]  # of each node, the index of its lane
    inputs: list[int]

    def references(self) -> dict[tuple[int, int], None]:
        """Which node's value is a part of which node's text, each pair once, in order."""
        return {
            (part.node, id): None
            for id, node in enumerate(self.nodes)
            if isinstance(node, Text | Score)
            for part in node.parts
            if isinstance(part, Ref)
        }


def structure(nodes: Sequence[Node]) -> Structure:
    """The lanes of a legal graph's nodes."""
    found = Structure(nodes, [], [], [])
    beginnings: dict[int, list[int]] = {}  # node -> lanes that begin there
    turns: list[int | None] = []  # the `Open` of the turn that is open after each node
    for id, node in enumerate(nodes):
        turns.append(_turn(id, node, turns))
        match node:
            case Root():
                found.lanes.append(Lane(id, 0))
                found.lane_of.append(0)
            case Branch(state=state) | Call(state=state):
                beginnings.setdefault(state, []).append(len(found.lanes))
                found.lanes.append(Lane(id, found.lanes[found.lane_of[state]].depth + 1))
                found.lane_of.append(len(found.lanes) - 1)
            case Step(state=state):
                lane = found.lane_of[state]
                found.lanes[lane].nodes.append(id)
                found.lane_of.append(lane)
                if isinstance(node, Keep):
                    found.lanes[found.lane_of[node.branch]].kept = True
            case _:
                found.lane_of.append(0)
                if isinstance(node, Input):
                    found.inputs.append(id)
    for lane in found.lanes:
        _fill(found, lane, beginnings, turns)
    return found


def _turn(id: int, node: Node, turns: list[int | None]) -> int | None:
    match node:
        case Open():
            return id
        case Keep(branch=branch):
            return turns[branch]
        case Close() | Call():
            return None
        case Step(state=state):
            return turns[state]
        case _:
            return None


def _fill(
    found: Structure, lane: Lane, beginnings: dict[int, list[int]], turns: list[int | None]
) -> None:
    framed = False  # a turn that began on this lane is open
    texts: list[int] = []

    def flush() -> None:
        if texts:
            lane.items.append(Card(tuple(texts)))
            texts.clear()

    for id in (lane.begin, *lane.nodes):
        node = found.nodes[id]
        if not isinstance(node, Text):
            flush()
        match node:
            case Text():
                texts.append(id)
            case Open(role=role):
                lane.items.append(TurnBegins(role, id))
                framed = True
            case Close() if framed:
                lane.items.append(TurnEnds(id))
                framed = False
            case Keep(state=state):
                changes = turns[id] != turns[state]
                if framed and changes:
                    lane.items.append(TurnEnds(None))
                    framed = False
                lane.items.append(Card((id,)))
                opened = turns[id]
                if changes and opened is not None:
                    lane.items.append(TurnBegins(_role(found.nodes[opened]), None))
                    framed = True
            case _ if id != lane.begin:
                lane.items.append(Card((id,)))
            case _:
                pass
        if id in beginnings:
            flush()
            lane.items += _groups(found, beginnings[id])
    flush()
    if framed:
        lane.items.append(TurnEnds(None))


def _role(node: Node) -> Role:
    assert isinstance(node, Open)
    return node.role


def _groups(found: Structure, lanes: list[int]) -> list[Group]:
    """Branches by index before calls."""
    branches: list[tuple[int, int]] = []
    calls: list[int] = []
    for lane in lanes:
        match found.nodes[found.lanes[lane].begin]:
            case Branch(index=index):
                branches.append((index, lane))
            case _:
                calls.append(lane)
    groups = [Group("branch", tuple(lane for _, lane in sorted(branches)))] if branches else []
    return [*groups, Group("call", tuple(calls))] if calls else groups

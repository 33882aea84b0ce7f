"""What a picture says of a node: a heading, a few lines, and the full text as a tooltip.

Knows the nodes and how the text form spells them; knows no place and no colour.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ramet.nodes import (
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Input,
    Keep,
    Node,
    Part,
    Ref,
    Sample,
    Score,
    Select,
    Text,
    kind_of,
)
from ramet.params import SamplingParams
from ramet.pictures.structure import Structure
from ramet.pictures.wrap import printable
from ramet.render import render_node
from ramet.types import Type

Style: TypeAlias = Literal["prompt", "note"]
_TYPE_ROOM = 400  # characters shown of a pattern or a schema


@dataclass(frozen=True, slots=True)
class Label:
    """`kind` and `name` are the heading, both empty for a text; `body` comes beneath."""

    kind: str = ""
    name: str = ""
    body: str = ""
    style: Style = "note"


def label(id: int, found: Structure) -> Label:
    """What the node's card says, of printable characters."""
    nodes = found.nodes
    match node := nodes[id]:
        case Text(parts=parts):
            return Label(body=parts_text(parts, nodes), style="prompt")
        case Score(name=name, parts=parts):
            return Label("score", printable(name), parts_text(parts, nodes), "prompt")
        case Gen(name=name, params=params, type=type):
            return Label("gen", printable(name) + _kind(type), _settings(params, type))
        case Sample(name=name, params=params, type=type):
            times = f" ×{node.count}"
            return Label("sample", printable(name) + _kind(type) + times, _settings(params, type))
        case Select(name=name, options=options):
            body = " · ".join(_plain(option) for option in options)
            return Label("select", printable(name), body, "prompt")
        case Fork(count=count):
            return Label("fork", f"×{count}")
        case Branch(state=fork, index=index):
            drawn = nodes[fork]
            name = f" · {printable(drawn.name)}" if isinstance(drawn, Sample) else ""
            return Label("branch", f"{index}{name}")
        case Keep(branch=branch):
            begin = nodes[found.lanes[found.lane_of[branch]].begin]
            assert isinstance(begin, Branch), "only branches are kept"
            return Label("keep", f"branch {begin.index}")
        case Call(program=program):
            return Label("call", printable(program))
        case Input(name=name, takes=takes):
            return Label("", "", f"{printable(name)}: {takes}", "prompt")
        case Close(role=role):
            return Label("end", f"of the {role} turn")
        case _:
            return Label(kind_of(node))


def tooltip(id: int, nodes: Sequence[Node]) -> str:
    """The whole of it: texts as they are, all else as the text form has it."""
    match node := nodes[id]:
        case Text(parts=parts):
            return f"%{id} text\n{parts_text(parts, nodes)}"
        case _:
            return printable(f"%{id} = {render_node(node)}")


def parts_text(parts: Sequence[Part], nodes: Sequence[Node]) -> str:
    """A text with the names of the values in it between angle quotes."""
    return "".join(
        f"«{reference(part, nodes)}»" if isinstance(part, Ref) else printable(part)
        for part in parts
    )


def reference(ref: Ref, nodes: Sequence[Node]) -> str:
    """The name of a value, with the attribute that is asked for."""
    match nodes[ref.node]:
        case Branch(state=fork):
            bound = nodes[fork]
        case bound:
            pass
    name = printable(str(getattr(bound, "name", f"%{ref.node}")))
    return name if ref.attribute is None else f"{name}.{ref.attribute}"


def _kind(type: Type | None) -> str:
    return "" if type is None else f": {type.kind}"


def _settings(params: SamplingParams, type: Type | None) -> str:
    settings = ", ".join(f"{name}={_plain(value)}" for name, value in params.to_dict().items())
    if type is None or not type.source:
        return settings
    source = " ".join(printable(type.source[:_TYPE_ROOM]).split())
    return f"{source}\n{settings}" if settings else source


def _plain(value: Any) -> str:
    single = value[0] if isinstance(value, list) and len(value) == 1 else value  # pyright: ignore
    return printable(json.dumps(single, ensure_ascii=False))

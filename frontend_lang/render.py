"""The canonical text form of a graph: one node a line, the result last.

    %12 = gen %11 as tip (max_tokens=48, stop=["\\n"])

Equal graphs give equal text. Knows the nodes, and no law about them.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ramet.nodes import (
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Input,
    Keep,
    ListOf,
    MapOf,
    Node,
    Object,
    Open,
    Part,
    Ref,
    Result,
    Sample,
    Score,
    Select,
    Step,
    Text,
    TextOf,
    TupleOf,
    kind_of,
)


def render(name: str, nodes: Sequence[Node], result: Result) -> str:
    """The whole graph; the last line is left out when the program returns all its variables."""
    lines = [f"program {name}"]
    lines += [f"%{id} = {render_node(node)}" for id, node in enumerate(nodes)]
    if result is not None:
        lines.append(f"return {render_result(result)}")
    return "\n".join(lines)


def render_node(node: Node) -> str:
    """One node, without its id."""
    words = [kind_of(node)]
    if isinstance(node, Step):
        words.append(f"%{node.state}")
    return " ".join([*words, *_details(node)])


def _details(node: Node) -> list[str]:
    match node:
        case Text(parts=parts):
            return [_parts(parts)]
        case Open(role=role) | Close(role=role):
            return [role]
        case Input(name=name, takes=takes):
            return [name, takes]
        case Gen(name=name, params=params, type=type) | Sample(name=name, params=params, type=type):
            kind = [] if type is None else ["type", str(type)]
            return ["as", name, *kind, *_settings(params.to_dict())]
        case Score(name=name, parts=parts):
            return ["as", name, "of", _parts(parts)]
        case Keep(branch=branch):
            return [f"%{branch}"]
        case Call(program=program):
            return [program]
        case Select(name=name, options=options):
            return ["as", name, "from", _plain(options), *_settings(_select_settings(node))]
        case Fork(count=count):
            return ["into", str(count)]
        case Branch(index=index):
            return ["number", str(index)]
        case _:
            return []


def _select_settings(node: Select) -> dict[str, Any]:
    settings = {f.name: (getattr(node, f.name), f.default) for f in fields(node)}
    chosen = {name: settings[name] for name in ("by", "temperature", "seed")}
    return {name: value for name, (value, default) in chosen.items() if value != default}


def _settings(settings: dict[str, Any]) -> list[str]:
    inner = ", ".join(f"{name}={_plain(value)}" for name, value in settings.items())
    return [f"({inner})"] if inner else []


def render_result(result: Result) -> str:
    """What a program returns, as an expression."""
    match result:
        case Ref():
            return _ref(result)
        case TextOf(parts):
            return _parts(parts)
        case ListOf(items):
            return f"[{', '.join(map(render_result, items))}]"
        case TupleOf(items):
            inner = ", ".join(map(render_result, items))
            return f"({inner},)" if len(items) == 1 else f"({inner})"
        case MapOf(items):
            return f"{{{', '.join(f'{_plain(k)}: {render_result(v)}' for k, v in items)}}}"
        case Object():
            return result.json
        case _:
            return _plain(result)


def _parts(parts: tuple[Part, ...]) -> str:
    return " + ".join(_ref(p) if isinstance(p, Ref) else _plain(p) for p in parts)


def _ref(ref: Ref) -> str:
    return f"%{ref.node}" if ref.attribute is None else f"%{ref.node}.{ref.attribute}"


def _plain(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)

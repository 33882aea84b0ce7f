"""The request graph as JSON and back; the round trip is the identity.

Strict: what is not exactly of this form is a `GraphError` that names the path, `$.nodes[3].state`,
and a graph that was read is legal. Trusts nothing of what it reads, and opens no file it names.
"""

import json
import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, NoReturn, cast

from ramet.errors import GraphError, ParameterError, Span, near_miss, shown
from ramet.graph import Graph
from ramet.nodes import (
    KINDS,
    ListOf,
    MapOf,
    Node,
    Object,
    Part,
    Ref,
    Result,
    TextOf,
    TupleOf,
    kind_of,
)
from ramet.params import SamplingParams
from ramet.types import Type
from ramet.verify import MAX_RESULT_DEPTH, verify

VERSION = 1


def to_json(graph: Graph) -> str:
    """The graph as one JSON object; `GraphError` if it is illegal."""
    verify(graph)
    nodes = [_node_to(node) for node in graph.nodes]
    data: dict[str, object] = {"version": VERSION, "name": graph.name, "nodes": nodes}
    if graph.result is not None:
        data["result"] = _result_to(graph.result)
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def from_json(text: str) -> Graph:
    """The graph that the text holds; `GraphError` if it holds none, or an illegal one."""
    data = _object(_parse(text), "$")
    if (version := _integer(_member(data, "version", "$"), "$.version")) != VERSION:
        _refuse(f"the version must be {VERSION}, not {shown(version)}", "$.version")
    _known(data, ("version", "name", "nodes", "result"), "$")
    nodes = _list(_member(data, "nodes", "$"), "$.nodes")
    graph = Graph(
        _string(_member(data, "name", "$"), "$.name"),
        tuple(_node_from(node, f"$.nodes[{i}]") for i, node in enumerate(nodes)),
        _result_from(data.get("result"), "$.result", MAX_RESULT_DEPTH),
    )
    verify(graph)
    return graph


def _parse(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_constant)
    except RecursionError:
        _refuse("it nests too deeply", "$")
    except ValueError as error:
        _refuse(f"no JSON: {error}", "$")


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    data = dict(pairs)
    if len(data) < len(pairs):
        _refuse("an object has the same name twice", "$")
    return data


def _no_constant(name: str) -> NoReturn:
    _refuse(f"{name} is no JSON", "$")


# -- nodes --


def _node_to(node: Node) -> dict[str, object]:
    data: dict[str, object] = {"kind": kind_of(node)}
    for field in fields(node):
        value = getattr(node, field.name)
        if value != field.default:
            data[field.name] = FORMS[field.name].write(value)
    return data


def _node_from(value: object, path: str) -> Node:
    data = _object(value, path)
    name = _string(_member(data, "kind", path), f"{path}.kind")
    if name not in KINDS:
        _refuse(f"unknown kind {shown(name)}{near_miss(name, KINDS)}", f"{path}.kind")
    kind = KINDS[name]
    known = {field.name: field for field in fields(kind)}
    _known(data, ("kind", *known), path)
    for field in known.values():
        if field.default is MISSING:
            _member(data, field.name, path)
    given = {key: value for key, value in data.items() if key != "kind"}
    return kind(**{k: FORMS[k].read(v, f"{path}.{k}") for k, v in given.items()})


@dataclass(frozen=True, slots=True)
class Form:
    """How the values of one field, of whatever node, go to JSON and come back."""

    write: Callable[[Any], object]
    read: Callable[[object, str], Any]


def _same(value: object) -> object:
    return value


def _span_from(value: object, path: str) -> Span:
    items = _list(value, path)
    if len(items) != 3:
        _refuse("a span is [file, line, column]", path)
    file, line, column = items
    return Span(
        _string(file, f"{path}[0]"),
        _integer(line, f"{path}[1]"),
        _integer(column, f"{path}[2]"),
    )


def _params_from(value: object, path: str) -> SamplingParams:
    try:
        return SamplingParams.from_dict(_object(value, path))
    except ParameterError as error:
        _refuse(error.message, path)


def _type_to(type: Type | None) -> object:
    return None if type is None else {"kind": type.kind, "source": type.source}


def _type_from(value: object, path: str) -> Type:
    data = _object(value, path)
    _known(data, ("kind", "source"), path)
    kind = _string(_member(data, "kind", path), f"{path}.kind")
    source = _string(data.get("source", ""), f"{path}.source")
    try:
        return Type(kind, source)  # pyright: ignore[reportArgumentType]  # it checks the kind
    except ParameterError as error:
        _refuse(error.message, path)


def _part_to(part: Part) -> object:
    return part if isinstance(part, str) else _ref_to(part)


def _parts_from(value: object, path: str) -> tuple[Part, ...]:
    return tuple(_part_from(part, f"{path}[{i}]") for i, part in enumerate(_list(value, path)))


def _part_from(value: object, path: str) -> Part:
    return _string(value, path) if isinstance(value, str) else _ref_from(value, path)


def _ref_to(ref: Ref) -> dict[str, object]:
    data: dict[str, object] = {"ref": ref.node}
    return data if ref.attribute is None else data | {"attribute": ref.attribute}


def _ref_from(value: object, path: str) -> Ref:
    data = _object(value, path)
    _known(data, ("ref", "attribute"), path)
    node = _integer(_member(data, "ref", path), f"{path}.ref")
    return Ref(node, _or_none(_string)(data.get("attribute"), f"{path}.attribute"))


def _options_from(value: object, path: str) -> tuple[str, ...]:
    return tuple(_string(item, f"{path}[{i}]") for i, item in enumerate(_list(value, path)))


# -- results: constants as they are, everything else as an object with a tag --


def _result_to(result: Result) -> object:
    match result:
        case Ref():
            return _ref_to(result)
        case TextOf(parts):
            return {"text": [_part_to(part) for part in parts]}
        case ListOf(items):
            return {"list": [_result_to(item) for item in items]}
        case TupleOf(items):
            return {"tuple": [_result_to(item) for item in items]}
        case MapOf(items):
            return {"map": {key: _result_to(item) for key, item in items}}
        case Object():
            return {"object": json.loads(result.json)}
        case _:
            return result


def _result_from(value: object, path: str, depth: int) -> Result:
    if value is None or isinstance(value, (bool, int, float)):
        return _finite(value, path)
    if isinstance(value, str):
        return _string(value, path)
    data = _object(value, path)
    if "ref" in data:
        return _ref_from(data, path)
    if len(data) != 1 or (tag := next(iter(data))) not in _TAGS:
        _refuse(
            "a result is a constant, or an object with ref, text, list, tuple, map or object", path
        )
    if tag == "object":
        return Object(_json(data[tag], f"{path}.object"), data[tag])
    if tag == "text":
        return TextOf(_parts_from(data[tag], f"{path}.text"))
    if depth == 0:
        _refuse(f"it nests deeper than {MAX_RESULT_DEPTH}", path)
    return _items_from(tag, data[tag], f"{path}.{tag}", depth - 1)


_TAGS = ("text", "list", "tuple", "map", "object")


def _json(value: object, path: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        _refuse("a number is too large, or it nests too deeply", path)


def _items_from(tag: str, value: object, path: str, depth: int) -> Result:
    if tag == "map":
        pairs = _object(value, path).items()
        # a long key would be copied into the path of every item below it
        return MapOf(
            tuple((_string(k, path), _result_from(v, f"{path}.{k[:32]}", depth)) for k, v in pairs)
        )
    items = tuple(
        _result_from(item, f"{path}[{i}]", depth) for i, item in enumerate(_list(value, path))
    )
    return ListOf(items) if tag == "list" else TupleOf(items)


def _finite(value: float | None, path: str) -> float | None:
    if isinstance(value, float) and not math.isfinite(value):
        _refuse("a number is too large", path)
    return value


# -- the types of JSON --


def _object(value: object, path: str) -> dict[str, object]:
    if not isinstance(value, dict):
        _refuse(f"an object is needed, not {shown(value)}", path)
    return cast("dict[str, object]", value)


def _list(value: object, path: str) -> list[object]:
    if not isinstance(value, list):
        _refuse(f"a list is needed, not {shown(value)}", path)
    return cast("list[object]", value)


def _string(value: object, path: str) -> str:
    if not isinstance(value, str):
        _refuse(f"a string is needed, not {shown(value)}", path)
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse("a lone surrogate is in a string", path)
    return value


def _integer(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(f"a whole number is needed, not {shown(value)}", path)
    return value


def _number(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(f"a number is needed, not {shown(value)}", path)
    try:
        return float(value)
    except OverflowError:
        _refuse("a number is too large", path)


def _or_none(read: Callable[[object, str], Any]) -> Callable[[object, str], Any]:
    return lambda value, path: None if value is None else read(value, path)


def _member(data: dict[str, object], name: str, path: str) -> object:
    if name not in data:
        _refuse(f"{name!r} is missing", path)
    return data[name]


def _known(data: dict[str, object], names: tuple[str, ...], path: str) -> None:
    for name in data:
        if name not in names:
            _refuse(f"unknown field {shown(name)}{near_miss(name, names)}", path)


def _refuse(message: str, path: str) -> NoReturn:
    raise GraphError(message, path=path)


FORMS: dict[str, Form] = {
    "state": Form(_same, _integer),
    "parts": Form(lambda parts: [_part_to(part) for part in parts], _parts_from),
    "role": Form(_same, _string),
    "name": Form(_same, _string),
    "params": Form(SamplingParams.to_dict, _params_from),
    "type": Form(_type_to, _or_none(_type_from)),
    "takes": Form(_same, _string),
    "branch": Form(_same, _integer),
    "program": Form(_same, _string),
    "options": Form(list, _options_from),
    "by": Form(_same, _string),
    "temperature": Form(_same, _number),
    "seed": Form(_same, _or_none(_integer)),
    "count": Form(_same, _integer),
    "index": Form(_same, _integer),
    "span": Form(lambda span: [span.file, span.line, span.column], _or_none(_span_from)),
}

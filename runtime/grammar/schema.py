"""A JSON schema as it is compiled: on one line, and with integers that end. Knows no engine."""

from typing import Any

# Fixed here: a schema's own "x-guidance" could allow endless blanks, or ignore what it asks for.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}

MOST = 10**18 - 1
_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")
# Where a schema holds others; what is under any other key, as "enum" or "default", is data.
_ONE = {"items", "additionalProperties", "additionalItems", "contains", "if", "then", "else"}
_LIST = {"allOf", "anyOf", "oneOf", "prefixItems"}
_MAP = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}


def prepared(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema for JSON on one line, at most one space behind a comma or colon, whose integers
    have at most 18 digits where it says nothing of their size to that side."""
    return {**_bounded(schema), "x-guidance": _LAYOUT}


def _bounded(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    result = {key: _inside(key, value) for key, value in schema.items()}
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "integer" in kinds and "number" not in kinds and "multipleOf" not in schema:
        below, above = (any(key in schema for key in keys) for keys in (_LOWER, _UPPER))
        if not below and all(_is_small(schema.get(key)) for key in _UPPER):
            result["minimum"] = -MOST
        if not above and all(_is_small(schema.get(key)) for key in _LOWER):
            result["maximum"] = MOST
    return result


def _is_small(bound: Any) -> bool:
    return bound is None or (isinstance(bound, int | float) and abs(bound) < MOST)


def _inside(key: str, value: Any) -> Any:
    if key in _ONE:
        return _bounded(value)
    if key in _LIST and isinstance(value, list):
        return list(map(_bounded, value))
    if key in _MAP and isinstance(value, dict):
        return {name: _bounded(each) for name, each in value.items()}
    return value

"""A JSON schema as it is compiled: on one line, and with integers that end. Knows no engine."""

from math import ceil, floor, inf, nextafter
from typing import Any

# Fixed here: a schema's own "x-guidance" could allow endless blanks, or ignore what it asks for.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}

# The engine reads bounds as doubles: the largest of 18 digits, and from where on some are missing.
MOST = 10**18 - 128
_EXACT = 2**53
_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")
# Where a schema holds others; what is under any other key, as "enum" or "default", is data.
_ONE = {"items", "additionalProperties", "additionalItems", "contains", "if", "then", "else"}
_LIST = {"allOf", "anyOf", "oneOf", "prefixItems"}
_MAP = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}


def prepared(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema for JSON on one line, at most one space behind a comma or colon, whose integers
    have at most 18 digits where it says nothing of their size to that side.

    Bounds of integers that are no doubles become the next ones inside.
    """
    return {**_bounded(schema), "x-guidance": _LAYOUT}


def _bounded(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    result = {key: _inside(key, value) for key, value in schema.items()}
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "integer" not in kinds or "number" in kinds:
        return result
    if "multipleOf" not in schema:
        below, above = (any(key in schema for key in keys) for keys in (_LOWER, _UPPER))
        if not below and all(_is_small(schema.get(key)) for key in _UPPER):
            result["minimum"] = -MOST
        if not above and all(_is_small(schema.get(key)) for key in _LOWER):
            result["maximum"] = MOST
    return _inward(_inward(result, _LOWER, 1), _UPPER, -1)


def _inward(schema: dict[str, Any], keys: tuple[str, str], sign: int) -> dict[str, Any]:
    """With one bound that is a double for those that may be none: the least that both allow, or
    with sign -1 the most."""
    bounds = {key: sign * schema[key] for key in keys if _is_number(schema.get(key))}
    if len(bounds) < len(schema.keys() & set(keys)) or not any(
        abs(bound) >= _EXACT for bound in bounds.values()
    ):
        return schema
    least = max(
        ceil(bound) if key == keys[0] else floor(bound) + 1 for key, bound in bounds.items()
    )
    rest = {key: value for key, value in schema.items() if key not in keys}
    return {**rest, keys[0]: sign * _double_from(least)}


def _double_from(number: int) -> int:
    near = float(number)
    return int(near if near >= number else nextafter(near, inf))


def _is_number(bound: Any) -> bool:
    return isinstance(bound, int | float) and abs(bound) < 2**1000


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

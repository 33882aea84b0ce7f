"""Which types are refused unseen, and which are tried out in a process of their own. No engine.

What costs more than the engine's fuel says:

* Many repetitions in a row. A state of `[^a]*[^b]*…` is the list of all that may come next, each
  with the rest of the pattern: 3,000 of them take 3 s and 600 MiB before the first token.
* Intersections. The engine looks whether one is empty before it counts any fuel.
* Rules that name rules, thousands deep: they exhaust the stack, and end the process.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from ramet.types import Type

MOST_REPETITIONS = 1000
MOST_REFERENCES = 200

_REPETITION = re.compile(r"[*+?{]")
_NOTES = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
_NOTES |= {"$schema", "$id", "$comment", "$defs", "definitions"}
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
# What a schema says in one breath, besides notes; what says more is an intersection.
_PLAIN: tuple[set[str], ...] = (
    {"$ref"},
    {"anyOf"},
    {"enum", "type"},
    {"const", "type"},
    {"type", "pattern"},
    {"type", "format"},
    {"type", "minLength", "maxLength"},
    {"type", *_BOUNDS},
    {"type", "properties", "required", "additionalProperties"},
    {"type", "items", "prefixItems", "minItems", "maxItems"},
)
_INNER = ("items", "additionalProperties")
_LISTS = ("anyOf", "prefixItems")
_MAPS = ("properties", "$defs", "definitions")


def repetitions(type: Type) -> int:
    """How many repetitions its patterns have, at most."""
    match type.kind:
        case "json":
            return sum(
                len(_REPETITION.findall(each)) for each in _patterns(json.loads(type.source))
            )
        case "regex" | "grammar":
            return len(_REPETITION.findall(type.source))
        case _:
            return 0


def is_plain(type: Type) -> bool:
    """Whether it certainly has no intersection in it, and no long way from rule to rule."""
    match type.kind:
        case "json":
            few = type.source.count('"$ref"') <= MOST_REFERENCES
            return few and _is_plain(json.loads(type.source))
        case "grammar":
            return False
        case _:
            return True


def _is_plain(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return isinstance(schema, bool)
    said = schema.keys() - _NOTES
    inner = [schema[key] for key in _INNER if key in schema]
    lists = [each for key in _LISTS for each in _as(list, schema.get(key, []))]
    maps = [each for key in _MAPS for each in _as(dict, schema.get(key, {})).values()]
    return any(said <= plain for plain in _PLAIN) and all(map(_is_plain, inner + lists + maps))


def _as(kind: Any, value: Any) -> Any:
    """The value, or nothing of that kind: a schema that is wrong is for the engine to refuse."""
    return value if isinstance(value, kind) else kind()


def _patterns(schema: Any) -> Iterator[str]:
    """Every pattern in it, also where none is meant."""
    if isinstance(schema, list):
        for each in schema:
            yield from _patterns(each)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key == "pattern" and isinstance(value, str):
                yield value
            elif key == "patternProperties" and isinstance(value, dict):
                yield from value
            yield from _patterns(value)

"""A regular expression for JSON of one shape, as programs build it for `gen(regex=...)`.

Fields come in the order of the schema, whitespace is at most one space after a colon or a comma.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from ramet.compat.sglang.errors import UnsupportedError

__all__ = ["build_regex_from_object"]

_STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
_INTEGER = r"-?(?:0|[1-9][0-9]*)"
_PLAIN = {
    "string": _STRING,
    "integer": _INTEGER,
    "number": _INTEGER + r"(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?",
    "boolean": r"(?:true|false)",
    "null": r"null",
}


def build_regex_from_object(object: Any, whitespace_pattern: str | None = None) -> str:
    """The pattern for a JSON schema: a pydantic model, a mapping, or JSON text.

    Args:
        whitespace_pattern: what may stand after a colon or a comma; a space or nothing, if not
            given.

    Raises `UnsupportedError` for a part of the schema that has no pattern here.
    """
    if hasattr(object, "model_json_schema"):
        schema = object.model_json_schema()
    else:
        schema = json.loads(object) if isinstance(object, str) else object
    return _Writer(schema, whitespace_pattern or " ?").pattern(schema)


class _Writer:
    """`deep` bounds references, which may go round."""

    def __init__(self, root: Mapping[str, Any], space: str) -> None:
        self._root = root
        self._space = space
        self._open: list[str] = []

    def pattern(self, schema: Mapping[str, Any]) -> str:
        if "$ref" in schema:
            return self._referred(schema["$ref"])
        for name in ("anyOf", "oneOf"):
            if name in schema:
                return _either(map(self.pattern, schema[name]))
        if "allOf" in schema and len(schema["allOf"]) == 1:
            return self.pattern(schema["allOf"][0])
        if "const" in schema or "enum" in schema:
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            return _either(re.escape(json.dumps(value)) for value in values)
        return self._typed(schema)

    def _typed(self, schema: Mapping[str, Any]) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            return _either(self.pattern({**schema, "type": each}) for each in kind)
        if kind == "string" and "pattern" in schema:
            inner = schema["pattern"].removeprefix("^").removesuffix("$")
            return f'"(?:{inner})"'
        if kind == "string" and {"minLength", "maxLength"} & schema.keys():
            low, high = schema.get("minLength", 0), schema.get("maxLength", "")
            return f'{_STRING[:-2]}{{{low},{high}}}"'
        if kind in _PLAIN:
            return _PLAIN[kind]
        if kind == "array":
            return self._array(schema)
        if kind == "object" and "properties" in schema:
            return self._object(schema["properties"])
        raise UnsupportedError(
            f"no pattern for this part of a JSON schema: {json.dumps(dict(schema))[:200]}; "
            "use gen(json_schema=...)"
        )

    def _object(self, properties: Mapping[str, Any]) -> str:
        fields = [
            f"{re.escape(json.dumps(name))}:{self._space}{self.pattern(each)}"
            for name, each in properties.items()
        ]
        return r"\{" + f",{self._space}".join(fields) + r"\}"

    def _array(self, schema: Mapping[str, Any]) -> str:
        item = self.pattern(schema.get("items", {"type": "string"}))
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        more = f"{{{max(0, least - 1)},{'' if most is None else max(0, most - 1)}}}"
        inside = f"{item}(?:,{self._space}{item}){more}"
        return rf"\[{inside}\]" if least else rf"\[(?:{inside})?\]"

    def _referred(self, reference: str) -> str:
        if reference in self._open:
            raise UnsupportedError(f"{reference} refers to itself: a pattern cannot; use a grammar")
        found: Any = self._root
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        self._open.append(reference)
        try:
            return self.pattern(found)
        finally:
            self._open.pop()


def _either(patterns: Any) -> str:
    return f"(?:{'|'.join(patterns)})"

"""The types of generated values: what a `gen` may write, and what its text is worth.

A record for the graph, and the reading of a text that obeys it. Knows no grammar engine: that a
pattern or a schema can be compiled is for the runtime to say.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from ramet.errors import ParameterError, near_miss, shown

TypeKind: TypeAlias = Literal["int", "float", "bool", "regex", "json", "grammar"]

KINDS: tuple[TypeKind, ...] = get_args(TypeKind)
PLAIN: tuple[TypeKind, ...] = ("int", "float", "bool")
MAX_SOURCE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Type:
    """What a generated text must be. `source` is the pattern, the JSON schema, or the grammar.

    Checked when it is made: `ParameterError` for an unknown kind, or a source that is missing,
    too long, or no JSON where it has to be.
    """

    kind: TypeKind
    source: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            hint = near_miss(self.kind, KINDS)
            raise ParameterError("type", self.kind, f"{shown(self.kind)} is no type{hint}")
        if (self.kind in PLAIN) != (self.source == ""):
            what = "takes no source" if self.kind in PLAIN else "needs a source"
            raise ParameterError("type", self.source, f"the type {self.kind} {what}")
        try:
            size = len(self.source.encode())
        except UnicodeEncodeError:
            raise ParameterError(
                self.kind, self.source, f"{self.kind}: a lone surrogate is in it"
            ) from None
        if size > MAX_SOURCE_BYTES:
            raise ParameterError(
                self.kind, self.source, f"{self.kind}: over {MAX_SOURCE_BYTES} bytes long"
            )
        if self.kind == "json":
            _check_schema(self.source)

    def __str__(self) -> str:
        return self.kind if self.kind in PLAIN else f"{self.kind}({json.dumps(self.source)})"


def json_type(schema: Mapping[str, Any] | bool | str) -> Type:
    """The type of JSON texts with this schema, given as a mapping or as JSON text."""
    if isinstance(schema, str):
        return Type("json", schema)
    try:
        return Type("json", json.dumps(schema, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ParameterError("json", schema, f"the schema is no JSON: {error}") from None


def value_of(type: Type | None, text: str) -> object:
    """What the text is worth; the text itself for a regex or a grammar, and where there is no type.

    Raises:
        ValueError: the text is no such thing, which only happens where it was cut short.
    """
    match type:
        case Type(kind="int"):
            return int(text)
        case Type(kind="float"):
            number = float(text)
            if not math.isfinite(number):
                raise ValueError(f"{text} is too large")
            return number
        case Type(kind="bool"):
            if text.strip().lower() not in ("true", "false"):
                raise ValueError(f"{text!r} is neither true nor false")
            return text.strip().lower() == "true"
        case Type(kind="json"):
            return json.loads(text)
        case _:
            return text


def _check_schema(source: str) -> None:
    try:
        schema = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise ParameterError("json", source, f"the schema is no JSON: {error}") from None
    if not isinstance(schema, dict | bool):
        raise ParameterError("json", source, "a JSON schema is an object, true or false")

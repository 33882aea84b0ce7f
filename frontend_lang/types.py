"""The types of generated values: what a `gen` may write, and what its text is worth.

A record for the graph, and the reading of a text that obeys it. Knows no grammar engine: that a
pattern or a schema can be compiled is for the runtime to say. Knows no Python classes either: what
makes an instance of one is a `Reader`.
"""

import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args

from ramet.errors import ParameterError, near_miss, shown

TypeKind: TypeAlias = Literal["int", "float", "bool", "regex", "json", "grammar", "choice"]

KINDS: tuple[TypeKind, ...] = get_args(TypeKind)
PLAIN: tuple[TypeKind, ...] = ("int", "float", "bool")
TEXTS: tuple[TypeKind, ...] = ("regex", "grammar", "choice")
"""The kinds whose value is the text itself."""
MAX_SOURCE_BYTES = 65_536


class Reader(Protocol):
    """Makes an instance of a Python class of a whole text."""

    @property
    def fields(self) -> frozenset[str]:
        """The public names that the instance has of its class."""
        ...

    def read(self, text: str) -> object:
        """The instance; `ValueError` says why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Type:
    """What a generated text must be. `source` is the pattern, the JSON schema, the grammar, or the
    JSON list of choices.

    How a Python program reads the text is no part of what it is: a graph is data, and a type that
    was read from JSON has no reader.

    Checked when it is made: `ParameterError` for an unknown kind, or a source that is missing,
    too long, or no JSON where it has to be.
    """

    kind: TypeKind
    source: str = ""
    reader: Reader | None = field(default=None, compare=False, repr=False)

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
        if self.kind == "choice":
            self.choices()

    @property
    def is_text(self) -> bool:
        """Whether the value is the text itself."""
        return self.kind in TEXTS and self.reader is None

    def choices(self) -> tuple[str, ...]:
        """The options of a choice; `ParameterError` if its source is no list of them."""
        try:
            options = json.loads(self.source)
        except (ValueError, RecursionError) as error:
            raise ParameterError(
                "choice", self.source, f"the choices are no JSON: {error}"
            ) from None
        return checked_choices(options)

    def __str__(self) -> str:
        if self.kind in PLAIN:
            return self.kind
        return f"{self.kind}({self.source if self.kind == 'choice' else json.dumps(self.source)})"


def json_type(schema: Mapping[str, Any] | bool | str) -> Type:
    """The type of JSON texts with this schema, given as a mapping or as JSON text."""
    if isinstance(schema, str):
        return Type("json", schema)
    try:
        return Type("json", json.dumps(schema, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ParameterError("json", schema, f"the schema is no JSON: {error}") from None


def choice_type(options: Any, reader: Reader | None = None) -> Type:
    """The type of a text that is one of these, given as a list."""
    return Type("choice", json.dumps(checked_choices(options), ensure_ascii=False), reader)


def checked_choices(options: Any) -> tuple[str, ...]:
    """The options; `ParameterError` unless there is one, and all are distinct texts, none empty."""
    if isinstance(options, str | bytes | Mapping) or not isinstance(options, Iterable):
        what = shown(cast("object", options))
        raise ParameterError("choice", None, f"choice takes a list of texts, not {what}")
    row = tuple(cast("Iterable[object]", options))
    if not row:
        raise ParameterError("choice", row, "choice needs at least one option")
    seen: set[str] = set()
    for option in row:
        if not isinstance(option, str):
            raise ParameterError("choice", option, f"an option is a text, not {shown(option)}")
        if option == "":
            raise ParameterError("choice", option, "an option is empty")
        if option in seen:
            raise ParameterError("choice", option, f"the option {shown(option)} is there twice")
        if not option.isascii() and any("\ud800" <= c <= "\udfff" for c in option):
            raise ParameterError("choice", option, "a lone surrogate is in an option")
        seen.add(option)
    return cast("tuple[str, ...]", row)


def value_of(type: Type | None, text: str) -> object:
    """What the text is worth; the text itself for a regex, a grammar or a choice, and where there
    is no type. With a reader, what that makes of it.

    Raises:
        ValueError: the text is no such thing: it was cut short, a number in it is too large, or its
            class refuses it.
    """
    if type is not None and type.kind == "json":
        value = _parsed(text)
        return value if type.reader is None else type.reader.read(text)
    if type is not None and type.reader is not None:
        return type.reader.read(text)
    match type:
        case Type(kind="int"):
            return int(text)
        case Type(kind="float"):
            return _finite(text)
        case Type(kind="bool"):
            if text.strip().lower() not in ("true", "false"):
                raise ValueError(f"{text!r} is neither true nor false")
            return text.strip().lower() == "true"
        case _:
            return text


def _parsed(text: str) -> object:
    try:
        return json.loads(text, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{reprlib.repr(text)[1:-1]} is too large")
    return number


def _whole(text: str) -> int:
    """The integer; Python reads no more than some thousand digits, as that takes their square."""
    try:
        return int(text)
    except ValueError:
        digits = len(text.lstrip("-"))
        raise ValueError(f"an integer of {digits} digits in it is too long") from None


def _check_schema(source: str) -> None:
    try:
        schema = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise ParameterError("json", source, f"the schema is no JSON: {error}") from None
    if not isinstance(schema, dict | bool):
        raise ParameterError("json", source, "a JSON schema is an object, true or false")

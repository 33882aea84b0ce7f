"""Python classes and type hints as JSON types, through pydantic: the schema, and the instance.

Loaded only when a program uses such a type. What a schema cannot say, a validator of the class's
own above all, is checked when the whole text is there.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import (
    PydanticInvalidForJsonSchema,
    PydanticUndefinedAnnotation,
    PydanticUserError,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaError, core_schema, to_jsonable_python

from ramet.errors import ParameterError, shown
from ramet.formats import PATTERNS
from ramet.types import Type, json_type

KEPT = 256
"""Hints whose adapters are kept: to make one takes a millisecond or more."""


def adapted(hint: Any, allowed: str) -> Type:
    """The JSON type of texts that pydantic reads as the hint says.

    Raises:
        ParameterError: pydantic can make no schema of it; `allowed` says what it may be.
    """
    if isinstance(hint, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        raise ParameterError("type", hint, f"type must be {allowed}, not {shown(hint)}")
    try:
        hash(hint)
    except TypeError:
        make = _made
    else:
        make = _kept
    try:
        return make(hint)
    except (PydanticUserError, SchemaError, TypeError, NameError, RecursionError) as error:
        named = hint.__name__ if isinstance(hint, type | TypeVar) else shown(hint)
        message = f"type must be {allowed}, not {named}: {_reason(error)}"
        raise ParameterError("type", hint, message) from None


def _reason(error: Exception) -> str:
    """The first sentence: what follows is advice to who extends pydantic, and a page of its own."""
    if isinstance(error, PydanticUndefinedAnnotation):
        return f"the name {shown(error.name)} in it is not defined"
    lines = [line.strip() for line in str(error).splitlines()]
    text = " ".join(line for line in lines if line and not line.startswith("For further"))
    return text.partition(". ")[0].removesuffix(".")


def plain(value: object) -> Any:
    """What JSON makes of an instance: dictionaries, lists, texts, numbers.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return to_jsonable_python(value, by_alias=True)
    except Exception as error:  # also what a serializer of its own raises
        raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Instances:
    """Reads what a hint says of a text."""

    validate: Callable[[str], object]
    fields: frozenset[str]

    def read(self, text: str) -> object:
        try:
            return self.validate(text)
        except ValidationError as error:
            raise ValueError(_reasons(error)) from error
        except Exception as error:  # what a validator of the class's own raises
            raise ValueError(f"{type(error).__name__}: {error}") from error


def _reasons(error: ValidationError) -> str:
    """Each with the place in the value: `age: Input should be less than 9`."""
    found: list[str] = []
    for each in error.errors(include_url=False, include_input=False):
        place = ".".join(map(str, each["loc"]))
        found.append(f"{place}: {each['msg']}" if place else each["msg"])
    return "; ".join(found)


def _made(hint: Any) -> Type:
    if variable := _variable(hint):
        raise TypeError(f"{variable} is a TypeVar and says nothing of the text")
    adapter = TypeAdapter[Any](hint)
    adapter.rebuild(raise_errors=True)
    schema = adapter.json_schema(schema_generator=_Schema)
    named = json_type(closed(schema, schema.get("$defs", {})))
    return dataclasses.replace(named, reader=Instances(adapter.validate_json, _fields(hint)))


_kept = lru_cache(KEPT)(_made)


def _variable(hint: object) -> str:
    """The name of a TypeVar in the hint that nothing constrains, if there is one."""
    if isinstance(hint, TypeVar) and hint.__bound__ is None and not hint.__constraints__:
        return hint.__name__
    inner: list[str] = [_variable(each) for each in get_args(hint)]
    return next((name for name in inner if name), "")


def _fields(hint: object) -> frozenset[str]:
    """The public names that an instance has of its class, of whichever of several it may be."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _fields(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return frozenset[str]().union(*map(_fields, get_args(hint)))
    if not isinstance(hint, type):
        return frozenset()
    declared = cast("Mapping[str, object]", getattr(hint, "__annotations__", {}))
    for base in hint.__mro__:
        declared = {**declared, **vars(base).get("__annotations__", {})}
    return frozenset(name for name in (*dir(hint), *declared) if name[0] != "_")


class _Schema(GenerateJsonSchema):
    """Schemas for what is written, not for what is accepted."""

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """A number; pydantic would take a text, too, of whatever letters."""
        found = super().decimal_schema(schema)
        return found["anyOf"][0] if "anyOf" in found else found

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        raise PydanticInvalidForJsonSchema("JSON has texts and no bytes; use str")

    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        raise PydanticInvalidForJsonSchema("JSON has no complex numbers")

    def is_subclass_schema(self, schema: core_schema.IsSubclassSchema) -> JsonSchemaValue:
        raise PydanticInvalidForJsonSchema("JSON has no classes")

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """A default says nothing of the text, and may be no JSON."""
        return self.generate_inner(schema["schema"])


# -- what the schema says of the text, and no more

_SAYS_NOTHING = frozenset(
    "title description default examples deprecated readOnly writeOnly discriminator uniqueItems "
    "contentMediaType contentSchema contentEncoding propertyNames".split()
)
_FORMATS = frozenset({"email", "hostname", "ipv4", "ipv6", "uri", "uuid"})
"""Those that mean the same to the grammar engine; others are patterns, or left to pydantic."""
_ONE = frozenset({"items", "additionalProperties", "contains", "not", "if", "then", "else"})
_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAP = frozenset({"properties", "patternProperties", "$defs"})


def closed(schema: Any, defs: Mapping[str, Any]) -> Any:
    """The schema with objects that have no keys but their own, and without what says nothing.

    What pydantic checks and a grammar cannot is left out, too: that the items of a set are
    distinct, and which of several models a text is.
    """
    if not isinstance(schema, dict):
        return schema
    given = cast("dict[str, Any]", schema)
    result: dict[str, Any] = {}
    for key, value in given.items():
        if key in _ONE:
            result[key] = closed(value, defs)
        elif key in _LIST:
            result["anyOf" if key == "oneOf" else key] = [closed(each, defs) for each in value]
        elif key in _MAP:
            result[key] = {name: closed(each, defs) for name, each in value.items()}
        elif key not in _SAYS_NOTHING:
            result[key] = value
    result |= _format(result.pop("format", None))
    if "properties" in result:
        result.setdefault("additionalProperties", False)
    return _named(result, given.get("propertyNames"), defs)


def _format(name: Any) -> dict[str, Any]:
    if name in _FORMATS:
        return {"format": name}
    if name in PATTERNS:
        return {"pattern": f"^({PATTERNS[name]})$"}
    if name == "ipvanyaddress":
        return {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
    return {}


def _named(schema: dict[str, Any], names: Any, defs: Mapping[str, Any]) -> dict[str, Any]:
    """A dictionary whose keys are a `Literal` or an enum is an object with these keys."""
    ref: Any = cast("dict[str, Any]", names).get("$ref") if isinstance(names, dict) else None
    if isinstance(ref, str):
        names = defs.get(ref.rpartition("/")[2])
    keys: Any = None
    if isinstance(names, dict):
        named = cast("dict[str, Any]", names)
        keys = [named["const"]] if "const" in named else named.get("enum")
    if not isinstance(keys, list) or "properties" in schema:
        return schema
    value = schema.get("additionalProperties", True)
    properties = {str(key): value for key in cast("list[object]", keys)}
    return schema | {"properties": properties, "additionalProperties": False}

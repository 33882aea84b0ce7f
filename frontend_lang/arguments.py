"""The arguments of a program's call against its signature: names, counts and simple types."""

from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import Any, get_origin

from ramet.errors import ArgumentError, near_miss, shown
from ramet.expressions import Expression

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list, tuple),
    "dict": (dict,),
    "map": (dict,),
}


def fit(
    name: str, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Every parameter with its argument or its default; `ArgumentError` where they do not fit.

    What `*rest` or `**rest` took stands under its name, as a tuple or a dictionary.
    """
    check_names(name, signature, kwargs)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ArgumentError(f"{name}{signature}: {error}") from None
    for parameter, value in bound.arguments.items():
        check_type(name, signature.parameters[parameter], value)
    bound.apply_defaults()
    return dict(bound.arguments)


def check_names(name: str, signature: Signature, kwargs: Mapping[str, Any]) -> None:
    """Refuse a keyword that is no parameter, unless the program takes any."""
    parameters = signature.parameters
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for keyword in kwargs:
        if keyword not in parameters:
            hint = near_miss(keyword, parameters)
            raise ArgumentError(f"{name}{signature}: no parameter {keyword!r}{hint}")


def check_type(name: str, parameter: Parameter, value: object) -> None:
    """Refuse a value that is not of a simple annotated type; lazy values are taken on trust."""
    kind = type_name(parameter.annotation)
    rest = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    if not rest and not isinstance(value, Expression) and not has_type(value, kind):
        raise ArgumentError(f"{name}: {parameter.name} must be {kind}, not {shown(value)}")


def has_type(value: object, kind: str) -> bool:
    """Whether it is of the simple type of that name; of a type with another name, anything is."""
    allowed = _TYPES.get(kind)
    if allowed is None:
        return True
    return isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))


def type_name(annotation: object) -> str:
    """`list` for `list`, `list[str]` and `"list"`, which is what a postponed annotation is."""
    if isinstance(annotation, str):
        return annotation.partition("[")[0]
    kind = get_origin(annotation) or annotation
    return kind.__name__ if isinstance(kind, type) and kind.__module__ == "builtins" else ""

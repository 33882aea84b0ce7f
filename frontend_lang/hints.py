"""What `gen(type=...)` takes, as types: plain types, `Literal`, enums, and what pydantic reads.

A hint becomes a `Type` whose reader makes what the hint promises. Loads pydantic for those alone
that need it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, cast, get_args, get_origin

from ramet.errors import ParameterError, near_miss, shown
from ramet.types import PLAIN, Type, choice_type

ALLOWED = (
    f"{', '.join(PLAIN)}, str, a Literal, an Enum, a dataclass, a TypedDict, "
    "a pydantic model, or a hint such as list[int] or Card | None"
)


def type_of(hint: Any) -> Type | None:
    """The type of a text that is worth such a value; None for `str`, which is any text.

    Raises:
        ParameterError: there is none.
    """
    if hint is None or hint is str or hint == "str":
        return None
    if isinstance(hint, Type):
        return hint
    if isinstance(hint, str):
        return _named(hint)
    if isinstance(hint, Mapping | list | tuple | set):
        message = f"type must be {ALLOWED}, not {shown(cast('object', hint))}{_meant(hint)}"
        raise ParameterError("type", None, message)
    if isinstance(hint, type) and hint.__name__ in PLAIN and hint.__module__ == "builtins":
        return Type(hint.__name__)
    if get_origin(hint) is Literal and all(isinstance(each, str) for each in get_args(hint)):
        return choice_type(dict.fromkeys(map(str, get_args(hint))).keys())
    if isinstance(hint, type) and issubclass(hint, Enum) and _is_of_texts(hint):
        return choice_type([member.value for member in hint], Members.of(hint))
    from ramet.adapters import adapted  # it loads pydantic, which `import ramet` does not

    return adapted(cast("Any", hint), ALLOWED)


@dataclass(frozen=True, slots=True)
class Members:
    """Reads the members of an enum from their values."""

    members: Mapping[str, Enum]
    fields: frozenset[str]

    @classmethod
    def of(cls, enum: type[Enum]) -> "Members":
        return cls({member.value: member for member in enum}, frozenset(dir(enum)))

    def read(self, text: str) -> Enum:
        if text not in self.members:
            raise ValueError("it is no member")
        return self.members[text]


def _named(name: str) -> Type:
    if name not in PLAIN:
        hint = near_miss(name, (*PLAIN, "str"))
        raise ParameterError("type", name, f"type must be {ALLOWED}, not {shown(name)}{hint}")
    return Type(name)


def _meant(hint: Any) -> str:
    """What someone who wrote this collection may have wanted."""
    if isinstance(hint, Mapping):
        return "; for a JSON schema write json_schema="
    names = [each.__name__ for each in hint if isinstance(each, type)]
    if not names or len(names) < len(hint):
        return ""
    kind = "tuple" if len(names) > 1 and isinstance(hint, list) else type(hint).__name__
    return f"; did you mean {kind}[{', '.join(names)}]?"


def _is_of_texts(enum: type[Enum]) -> bool:
    values = [cast(object, member.value) for member in enum]
    return bool(values) and all(isinstance(value, str) for value in values)

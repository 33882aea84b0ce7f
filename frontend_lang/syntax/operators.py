"""The operators of the expression language, on plain values: bounded, or with a clear error."""

import operator
from collections.abc import Callable
from typing import Any

from ramet.syntax.functions import (
    MAX_ITEMS,
    MAX_TEXT,
    Refused,
    comparable,
    named,
    number,
    whole,
)


def _plus(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        return [*left, *right]
    if isinstance(left, str) or isinstance(right, str):
        other = right if isinstance(left, str) else left
        raise Refused(f"'+' joins texts; write str(...) around {named(other)}")
    return number(left, _SUMMABLE) + number(right, _SUMMABLE)


_SUMMABLE = "a number, or on both sides a text or a list,"


def _times(left: Any, right: Any) -> Any:
    for row, times in ((left, right), (right, left)):
        if isinstance(row, str | list):
            count = whole(times)
            most = MAX_TEXT if isinstance(row, str) else MAX_ITEMS
            if len(row) * count > most:
                raise Refused(f"the result has more than {most:,} items")
            return row * count
    return number(left) * number(right)


def _divided(divide: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda left, right: divide(number(left), number(right))


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": _plus,
    "-": lambda left, right: number(left) - number(right),
    "*": _times,
    "/": _divided(operator.truediv),
    "//": _divided(operator.floordiv),
    "%": _divided(operator.mod),
}


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def ordered(left: Any, right: Any) -> bool:
        try:
            return compare(*comparable([left, right]))
        except Refused:
            raise Refused(f"{named(left)} and {named(right)} have no order") from None

    return ordered


def _within(left: Any, right: Any) -> bool:
    if isinstance(right, str) and not isinstance(left, str):
        raise Refused(f"'in' looks for a text in a text, not for {named(left)}")
    if not isinstance(right, str | list | dict):
        raise Refused(f"'in' looks into a text, list or map, not into {named(right)}")
    return left in right


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "in": _within,
    "not in": lambda left, right: not _within(left, right),
}

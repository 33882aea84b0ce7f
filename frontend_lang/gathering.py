"""Decisions over gathered values, for programs in Python; in text they are functions."""

from collections.abc import Iterable
from typing import Any

from ramet.errors import ArgumentError
from ramet.expressions import Expression
from ramet.syntax import functions


def argmax(values: Iterable[Any]) -> int:
    """The index of the largest value, of several the first; looks at all of them."""
    return _decided(functions.argmax, values)


def argmin(values: Iterable[Any]) -> int:
    """The index of the smallest value, of several the first; looks at all of them."""
    return _decided(functions.argmin, values)


def majority(values: Iterable[Any]) -> Any:
    """The value that is there most often, of several the first; looks at all of them."""
    return _decided(functions.majority, values)


def _decided(decide: Any, values: Iterable[Any]) -> Any:
    try:
        return decide(
            [value.look() if isinstance(value, Expression) else value for value in values]
        )
    except functions.Refused as refused:
        raise ArgumentError(str(refused)) from None

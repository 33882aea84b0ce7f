"""What a parameter takes, in words and as a check. Knows no parameter by name."""

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ramet.errors import ParameterError, shown

MAX_TOKEN_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Domain:
    """What is allowed, and `accept`, which gives the stored form of a value.

    `accept` raises `TypeError`, `ValueError` or `OverflowError` for anything outside.
    """

    allowed: str
    accept: Callable[[Any], object]


def checked(name: str, given: object, domain: Domain) -> Any:
    """What the domain makes of the value that was given for the parameter of that name."""
    try:
        return domain.accept(given)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"{name} must be {domain.allowed}, not {shown(given)}"
        raise ParameterError(name, given, message) from error


def whole(low: int, high: int) -> Domain:
    return Domain(f"a whole number from {low} to {high}", lambda value: _whole(value, low, high))


def real(low: float, high: float) -> Domain:
    return Domain(f"a number from {low:g} to {high:g}", lambda value: _real(value, low, high))


def flag() -> Domain:
    return Domain("True or False", _flag)


def one_of(values: tuple[bool | str, ...]) -> Domain:
    return Domain(
        f"one of {', '.join(map(repr, values))}", lambda value: values[_place(value, values)]
    )


def optional(domain: Domain) -> Domain:
    return Domain(
        f"None or {domain.allowed}", lambda value: None if value is None else domain.accept(value)
    )


def token_ids(low: int, high: int) -> Domain:
    """A set of token ids, stored as a sorted tuple."""
    return Domain(f"{low} to {high} token ids", lambda value: _token_ids(value, low, high))


def biases(most: int, bound: float) -> Domain:
    """A mapping from token id to bias, or its pairs; stored as sorted pairs."""
    return Domain(
        f"at most {most} token ids, each with a number from {-bound:g} to {bound:g}",
        lambda value: _biases(value, most, bound),
    )


def strings(most: int, size: int) -> Domain:
    """One string or several, stored as a tuple."""
    return Domain(
        f"at most {most} strings of 1 to {size} bytes", lambda value: _strings(value, most, size)
    )


def pattern(size: int) -> Domain:
    """A regular expression; one that may match an empty text would match at once, anywhere."""
    return Domain(
        f"a regular expression of at most {size} bytes that matches no empty text",
        lambda value: _pattern(value, size),
    )


def _whole(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool):
        raise TypeError
    return _within(operator.index(value), low, high)


def _real(value: Any, low: float, high: float) -> float:
    if isinstance(value, bool | str | bytes):
        raise TypeError
    return _within(float(value), low, high)


def _within(number: Any, low: float, high: float) -> Any:
    if not low <= number <= high:  # NaN is in no range
        raise ValueError
    return number


def _place(value: Any, values: tuple[bool | str, ...]) -> int:
    """Where the value stands; 1 is not True."""
    for place, known in enumerate(values):
        if type(value) is type(known) and value == known:
            return place
    raise ValueError


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _token_ids(value: Iterable[Any], low: int, high: int) -> tuple[int, ...]:
    tokens = {_whole(token, 0, MAX_TOKEN_ID) for token in value}
    _within(len(tokens), low, high)
    return tuple(sorted(tokens))


def _biases(value: Any, most: int, bound: float) -> tuple[tuple[int, float], ...]:
    given = dict(value)
    found = {_token_key(key): _real(bias, -bound, bound) for key, bias in given.items()}
    _within(len(given), len(found), min(len(found), most))  # two keys may be one token
    return tuple(sorted(found.items()))


def _token_key(key: Any) -> int:
    """A token id; JSON spells the keys of an object as strings."""
    if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= 10:
        key = int(key)
    return _whole(key, 0, MAX_TOKEN_ID)


def _strings(value: Any, most: int, size: int) -> tuple[str, ...]:
    given: tuple[Any, ...] = (value,) if isinstance(value, str) else tuple(value)
    _within(len(given), 0, most)
    return tuple(_utf8(string, size) for string in given)


def _pattern(value: Any, size: int) -> str:
    """It is neither compiled nor tried: both may take long, and `re` has no time limit."""
    try:
        least, _ = _PARSER.parse(_utf8(value, size)).getwidth()
    except (re.error, RecursionError) as error:
        raise ValueError from error
    if not least:
        raise ValueError
    return value


_PARSER: Any = import_module("re._parser")  # there `re` works out how long its matches are


def _utf8(value: Any, size: int) -> str:
    if not isinstance(value, str):
        raise TypeError
    _within(len(value.encode()), 1, size)
    return value

"""What a program's body returned, turned into the result of a graph."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn, cast

from ramet.errors import LanguageError, shown
from ramet.expressions import Expression, Sum
from ramet.nodes import ListOf, MapOf, Object, Result, TextOf, TupleOf
from ramet.recorder import Recorder
from ramet.spelling import plain
from ramet.values import Gathered, Value, parts_for
from ramet.verify import MAX_RESULT_DEPTH


def result_of(returned: object, recorder: Recorder, depth: int = MAX_RESULT_DEPTH) -> Result:
    """The value with references for what is lazy in it; `LanguageError` for what JSON lacks."""
    if depth < 0:
        raise LanguageError(f"what a program returns may nest {MAX_RESULT_DEPTH} deep at most")

    def each(items: Iterable[Any]) -> tuple[Result, ...]:
        return tuple(result_of(item, recorder, depth - 1) for item in items)

    match returned:
        case None | bool() | int() | float() | str():
            return returned
        case Value():
            return returned.ref_for(recorder)
        case Sum(terms) if all(isinstance(term, str | Value) for term in terms):
            return TextOf(parts_for(terms, recorder))
        case Gathered(values=items):
            return ListOf(each(items))
        case list():
            return ListOf(each(cast("list[Any]", returned)))
        case tuple():
            return TupleOf(each(cast("tuple[Any, ...]", returned)))
        case dict():
            items = cast("dict[Any, Any]", returned)
            return MapOf(tuple(zip(map(_key, items), each(items.values()), strict=True)))
        case Expression() | set() | frozenset() | bytes() | Iterator():
            _refuse(cast("object", returned))
        case _:
            return Object(_json(returned), returned)


def _json(returned: object) -> str:
    """What an instance of a class is in a graph."""
    try:
        return json.dumps(plain(returned), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        _refuse(returned)


def _refuse(returned: object) -> NoReturn:
    raise LanguageError(
        f"a program cannot return {shown(returned)}; it returns values, constants, instances "
        "that JSON can hold, and lists, tuples and dictionaries of them"
    ) from None


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise LanguageError(f"a key that a program returns must be a string, not {shown(key)}")
    return key

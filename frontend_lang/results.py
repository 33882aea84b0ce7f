"""What a program's body returned, turned into the result of a graph."""

from collections.abc import Iterable
from typing import Any, cast

from ramet.errors import LanguageError, shown
from ramet.expressions import Sum
from ramet.nodes import ListOf, MapOf, Result, TextOf, TupleOf
from ramet.recorder import Recorder
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
        case _:
            raise LanguageError(
                f"a program cannot return {shown(returned)}; it returns values, "
                "constants, and lists, tuples and dictionaries of them"
            )


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise LanguageError(f"a key that a program returns must be a string, not {shown(key)}")
    return key

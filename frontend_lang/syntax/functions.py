"""The functions of the expression language: pure, total or with a clear error, bounded in size.

They work on plain values: none, booleans, numbers, texts, lists, maps.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ramet.spelling import plain, spelled

MAX_TEXT = 1_000_000  # characters of a text
MAX_ITEMS = 100_000  # items of a list
MAX_BITS = 4_096  # of a whole number
MAX_STRIPPED = 1_000  # characters that are stripped; each of a text is looked for among them


class Refused(Exception):
    """The operation makes no sense for these values, or its result would be too large."""


@dataclass(frozen=True, slots=True)
class Pure:
    """A function: what it does, and how many arguments it takes."""

    call: Callable[..., Any]
    least: int
    most: int | None  # None: any number
    says: str  # its arguments, as an error shows them


def kind_of(value: object) -> str:
    """What the language calls a value of that kind."""
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return "none" if value is None else type(value).__name__


_KINDS: tuple[tuple[Any, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (str, "str"),
    (list | tuple, "list"),
    (dict, "map"),
)


def hold_text(size: int) -> None:
    """Refuse a text of that many characters if it is too long."""
    if size > MAX_TEXT:
        raise Refused(f"a text of {size:,} characters; {MAX_TEXT:,} is the most")


def bounded(value: Any) -> Any:
    """The value, if it is not too large."""
    if isinstance(value, str):
        hold_text(len(value))
        return value
    if isinstance(value, list | dict) and len(value) > MAX_ITEMS:
        raise Refused(f"{len(value):,} items; {MAX_ITEMS:,} is the most")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise Refused(f"a whole number of more than {MAX_BITS:,} bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused("the result is no finite number")
    return value


def number(value: object, what: str = "a number") -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{what} is needed, not {named(value)}")
    return value


def whole(value: object, what: str = "a whole number") -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(f"{what} is needed, not {named(value)}")
    return value


def text(value: object) -> str:
    if not isinstance(value, str):
        raise Refused(f"a text is needed, not {named(value)}")
    return value


def written(value: object) -> str:
    """As `spelled`; refused where that is no JSON."""
    try:
        return spelled(value)
    except ValueError as error:
        raise Refused(f"this cannot stand in a text: {error}") from None


def items(value: object) -> list[Any]:
    """A list, the characters of a text, or the keys of a map."""
    if not isinstance(value, list | tuple | str | dict):
        raise Refused(f"a list is needed, not {named(value)}")
    return list(value)


def some(value: object) -> list[Any]:
    found = items(value)
    if not found:
        raise Refused("a list with at least one item is needed")
    return found


def named(value: object) -> str:
    """What the language calls the value, with its article."""
    kind = kind_of(value)
    return kind if kind == "none" else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _len(value: object) -> int:
    return len(items(value))


def _range(*bounds: object) -> list[int]:
    numbers = [whole(bound) for bound in bounds]
    if len(numbers) == 3 and numbers[2] == 0:
        raise Refused("the step of a range cannot be 0")
    start, stop, step = (0, *numbers, 1) if len(numbers) == 1 else (*numbers, 1)[:3]
    count = (stop - start + step - (1 if step > 0 else -1)) // step
    if count > MAX_ITEMS:
        raise Refused(f"a range of more than {MAX_ITEMS:,} items")
    return list(range(start, stop, step))


def _enumerate(value: object) -> list[Any]:
    return [[at, item] for at, item in enumerate(items(value))]


def _zip(*lists: object) -> list[Any]:
    return [list(row) for row in zip(*map(items, lists), strict=False)]


def _join(parts: object, separator: object = "") -> str:
    found, between = [written(part) for part in items(parts)], text(separator)
    size = sum(map(len, found)) + len(between) * max(0, len(found) - 1)
    hold_text(size)
    return between.join(found)


def _strip(value: object, characters: object = None) -> str:
    which = None if characters is None else text(characters)
    if which is not None and len(which) > MAX_STRIPPED:
        raise Refused(f"strip takes at most {MAX_STRIPPED:,} characters")
    return text(value).strip(which)


def _split(value: object, separator: object = None) -> list[str]:
    between = None if separator is None else text(separator)
    if between == "":
        raise Refused("split needs a separator that is not empty")
    return text(value).split(between)


def _replace(value: object, old: object, new: object) -> str:
    where, what, by = text(value), text(old), text(new)
    count = where.count(what)
    size = len(where) + count * (len(by) - len(what))
    hold_text(size)
    return where.replace(what, by)


def _int(value: object) -> int:
    if isinstance(value, str):
        if len(value) > 1_000:
            raise Refused(f"a text of {len(value):,} characters is no whole number")
        try:
            return int(value)
        except ValueError:
            raise Refused(f"{value[:40]!r} is no whole number") from None
    if isinstance(value, bool | int | float):
        return int(bounded(value))
    raise Refused(f"int takes a number or a text, not {named(value)}")


def _float(value: object) -> float:
    if isinstance(value, str):
        try:
            return bounded(float(value))
        except ValueError:
            raise Refused(f"{value[:40]!r} is no number") from None
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:
            raise Refused("the number is too large") from None
    raise Refused(f"float takes a number or a text, not {named(value)}")


def _round(value: object, digits: object = None) -> Any:
    places = None if digits is None else whole(digits)
    if places is not None and abs(places) > 100:
        raise Refused("round takes at most 100 digits")
    return round(number(value), places)


def _extreme(pick: Callable[..., Any]) -> Callable[..., Any]:
    def best(*values: object) -> Any:
        found = some(values[0]) if len(values) == 1 else list(values)
        return pick(comparable(found))

    return best


def comparable(values: Sequence[Any]) -> list[Any]:
    """The values, if they are all numbers, or all texts."""
    if values and all(isinstance(value, str) for value in values):
        return list(values)
    return [number(value, "a list of numbers, or of texts,") for value in values]


def _sum(values: object) -> Any:
    return sum(number(value) for value in items(values))


def _arg(pick: Callable[..., Any]) -> Callable[[object], int]:
    def at(values: object) -> int:
        found = comparable(some(values))
        return pick(range(len(found)), key=found.__getitem__)

    return at


def majority(values: object) -> Any:
    """The value that is there most often; of several the one that came first."""
    found = some(values)
    keys = [_key(value) for value in found]
    best, _ = Counter(keys).most_common(1)[0]
    return found[keys.index(best)]


def _key(value: object) -> object:
    """Equal for equal values; of an instance of a class, what JSON makes of it."""
    if isinstance(value, str):
        return value
    return (json.dumps(value, sort_keys=True, default=plain),)


def _any(values: object) -> bool:
    return any(items(values))


def _all(values: object) -> bool:
    return all(items(values))


argmax = _arg(max)
argmin = _arg(min)

FUNCTIONS: dict[str, Pure] = {
    "all": Pure(_all, 1, 1, "a list"),
    "any": Pure(_any, 1, 1, "a list"),
    "argmax": Pure(argmax, 1, 1, "a list"),
    "argmin": Pure(argmin, 1, 1, "a list"),
    "enumerate": Pure(_enumerate, 1, 1, "a list"),
    "float": Pure(_float, 1, 1, "a number or a text"),
    "int": Pure(_int, 1, 1, "a number or a text"),
    "join": Pure(_join, 1, 2, "a list, a separator"),
    "len": Pure(_len, 1, 1, "a text, list or map"),
    "lower": Pure(lambda value: text(value).lower(), 1, 1, "a text"),
    "majority": Pure(majority, 1, 1, "a list"),
    "max": Pure(_extreme(max), 1, None, "a list, or several numbers"),
    "min": Pure(_extreme(min), 1, None, "a list, or several numbers"),
    "range": Pure(_range, 1, 3, "a stop; or a start, a stop, a step"),
    "replace": Pure(_replace, 3, 3, "a text, what, by what"),
    "round": Pure(_round, 1, 2, "a number, digits"),
    "sorted": Pure(lambda values: sorted(comparable(items(values))), 1, 1, "a list"),
    "split": Pure(_split, 1, 2, "a text, a separator"),
    "str": Pure(written, 1, 1, "a value"),
    "strip": Pure(_strip, 1, 2, "a text, characters"),
    "sum": Pure(_sum, 1, 1, "a list of numbers"),
    "upper": Pure(lambda value: text(value).upper(), 1, 1, "a text"),
    "zip": Pure(_zip, 1, None, "lists"),
}
"""Every function by name."""

"""Values in the terms of JSON, so that any reader can take them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ramet import spelling


def plain(value: object) -> Any:
    """The value in the terms of JSON: tuples as lists, null for what is no finite number."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case str() | int() | None:
            return value
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case Sequence():
            return [plain(item) for item in value]
        case _:
            return _instance(value)


def _instance(value: object) -> Any:
    """What JSON makes of an instance of a class, or else how it spells itself."""
    try:
        return spelling.plain(value)
    except ValueError:
        return str(value)

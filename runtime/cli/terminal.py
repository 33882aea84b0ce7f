"""Where a command prints: consoles for stdout and stderr, and JSON that any reader can take.

Colours only on a terminal, and none where NO_COLOR is set; rich sees to both.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from ramet import spelling


def out() -> Console:
    """What the command is asked for."""
    return Console(highlight=False, markup=False, emoji=False)


def err() -> Console:
    """What went wrong, and how far it is."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_json(value: object) -> None:
    """One line of JSON on stdout, at once."""
    print(as_json(value), flush=True)


def as_json(value: object, indent: int | None = None) -> str:
    """The value as JSON; letters are escaped only where stdout could not write them."""
    data = plain(value)
    text = json.dumps(data, ensure_ascii=False, indent=indent)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(data, indent=indent)
    return text


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

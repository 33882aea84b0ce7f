"""How a plain value stands in a text."""

import json
from typing import Any


def spelled(value: object) -> str:
    """A text is itself, everything else is what JSON makes of it.

    Raises:
        ValueError: it is no JSON, or a number that is not finite.
        RecursionError: it nests too deeply.
    """
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except TypeError as error:
        raise ValueError(str(error)) from None


def plain(value: object) -> Any:
    """What JSON makes of an instance: a model, a dataclass, a member of an enum, a date, a set.

    Raises:
        ValueError: it is no JSON.
    """
    from ramet.adapters import plain  # it loads pydantic, which `import ramet` does not

    return plain(value)

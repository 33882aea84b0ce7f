"""How a plain value stands in a text."""

import json


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

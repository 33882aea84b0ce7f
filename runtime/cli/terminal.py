"""Where a command prints: consoles for stdout and stderr, and JSON that any reader can take.

Colours only on a terminal, and none where NO_COLOR is set; rich sees to both.
"""

import json
import sys

from rich.console import Console

from ramet.runtime.jsonable import plain


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

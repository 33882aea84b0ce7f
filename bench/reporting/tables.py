"""Markdown tables, and numbers for people."""

from collections.abc import Iterable, Sequence
from typing import Any

from reporting.records import Row


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell(each) for each in line)} |" for line in lines)


def cell(value: Any) -> str:
    return "–" if value is None else number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Three digits that count, and no fewer before the point than there are."""
    if value == 0:
        return "0"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def times(value: float | None) -> str:
    return "–" if value is None else f"{number(float(value))}×"


def percent(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def plain(rows: Sequence[Row]) -> str:
    """Rows of which nothing is known: whatever is a number or a text in them, a table a shape."""
    flat = [_flat(row) for row in rows]
    heads = list(dict.fromkeys(tuple(row) for row in flat))
    tables = (
        table(head, (list(row.values()) for row in flat if tuple(row) == head)) for head in heads
    )
    return "\n\n".join(tables)


def _flat(row: Row, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            found |= _flat(value, f"{name}, ")
        elif isinstance(value, int | float | str):
            found[name] = value
    return found

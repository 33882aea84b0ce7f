"""`ramet models`: the models that a package brings."""

from typing import Any

from rich.table import Table

from ramet.runtime.cli.terminal import out, print_json
from ramet.runtime.embedded import EMBEDDED, embedded_file, how_to_get
from ramet.runtime.errors import ModelError


def models(*, as_json: bool) -> None:
    """Every embedded model: where it lies, or how to get it."""
    rows = [_row(name) for name in sorted(EMBEDDED)]
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("model", "installed", ""):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row["model"], "yes" if row["file"] else "no", row["file"] or row["get"])
    out().print(table)


def _row(name: str) -> dict[str, Any]:
    try:
        return {"model": name, "file": str(embedded_file(name)), "get": how_to_get(name)}
    except ModelError:
        return {"model": name, "file": None, "get": how_to_get(name)}

"""`ramet graph`: the request graph as text, JSON, SVG or Mermaid."""

import sys
from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path

from ramet.codec import to_json
from ramet.graph import Graph
from ramet.pictures import mermaid, svg
from ramet.runtime.cli.compiling import compiled
from ramet.runtime.cli.files import STDIN


class Form(Enum):
    """How it is shown."""

    TEXT = auto()
    JSON = auto()
    SVG = auto()
    MERMAID = auto()


def graph(file: str, name: str | None, given: Sequence[str], form: Form, target: str) -> None:
    """Write the graph to a file, or to stdout if the target is `-`."""
    text = _drawn(compiled(file, name, given).graph, form).rstrip("\n") + "\n"
    if target == STDIN:
        sys.stdout.write(text)
    else:
        Path(target).write_text(text, encoding="utf-8")


def _drawn(graph: Graph, form: Form) -> str:
    match form:
        case Form.TEXT:
            return str(graph)
        case Form.JSON:
            return to_json(graph)
        case Form.SVG:
            return svg(graph)
        case Form.MERMAID:
            return mermaid(graph)

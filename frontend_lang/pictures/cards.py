"""How nodes become rows of a card: which lines they have, and how high they are."""

from collections.abc import Sequence
from dataclasses import dataclass

from ramet.nodes import Result
from ramet.pictures.boxes import Row
from ramet.pictures.labels import Label, label
from ramet.pictures.structure import Structure
from ramet.pictures.wrap import printable, wrapped
from ramet.render import render_result

GAP = 6  # above and below each row
SIDE = 12  # from the edge of a card to its text
HEADING, PROMPT, NOTE = 18, 15, 14  # line heights
PROMPT_CELL, NOTE_CELL, HEADING_CELL, TITLE_CELL = 6.7, 6.1, 7.4, 6.6  # widths of a letter
LONGEST = {1: 5, 2: 3, 3: 3}  # lines of a text, by how many texts there are on its card
CROWDED = 2  # lines of a text among more
NOTES = 2  # lines of settings


@dataclass(frozen=True, slots=True)
class Sized:
    """The rows of a card that has its size already."""

    width: int
    height: int
    rows: tuple[Row, ...]


def rows_of(ids: Sequence[int], found: Structure, width: int) -> tuple[Row, ...]:
    """The rows of a card that is that wide."""
    limit = LONGEST.get(len(ids), CROWDED)
    return _stacked([(id, label(id, found)) for id in ids], width, limit)


def program_card(found: Structure, name: str, width: int) -> Sized:
    """The head of the picture: the program and its open arguments."""
    about = [(0, Label("program", name))] + [(id, label(id, found)) for id in found.inputs]
    return _sized(about, width, 1)


def result_card(result: Result, width: int) -> Sized:
    """The foot: what the program returns. It is no node, and its row has the number -1."""
    text = printable(render_result(result))
    return _sized([(-1, Label("return", "", text, "prompt"))], width, 4)


def _sized(about: Sequence[tuple[int, Label]], width: int, limit: int) -> Sized:
    rows = _stacked(about, width, limit)
    return Sized(width, rows[-1].top + rows[-1].height + GAP, rows)


def _stacked(about: Sequence[tuple[int, Label]], width: int, limit: int) -> tuple[Row, ...]:
    rows: list[Row] = []
    top = GAP
    for id, told in about:
        cell = PROMPT_CELL if told.style == "prompt" else NOTE_CELL
        most = limit if told.style == "prompt" else NOTES
        lines = tuple(wrapped(told.body, int((width - 2 * SIDE) / cell), most))
        line = PROMPT if told.style == "prompt" else NOTE
        height = (HEADING if told.kind else 0) + line * len(lines)
        rows.append(Row(id, told, lines, told.style, top, height))
        top += height + GAP
    return tuple(rows)

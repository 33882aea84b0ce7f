"""The text of a run while it is written, one variable after the other.

Branches write at the same time, a terminal shows one line after the other: so the first variable
is shown as it is written, and what the others write waits for its turn. Nothing is interleaved.
"""

import re
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from ramet.pictures.wrap import printable
from ramet.runtime.cli.terminal import as_json
from ramet.runtime.events import Event, TextDelta, ValueBound

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
_PLACE = re.compile(r"/(?:\d+\.(\d+)|(call\d+))")


@dataclass(eq=False, slots=True)
class Turn:
    """A variable on one state, and its text so far."""

    name: str
    path: str
    node: int
    sample: int
    label: str
    text: list[str] = field(default_factory=list)
    shown: int = 0  # pieces of the text
    done: bool = False


class Live:
    """Takes the events of a run; without a console it only collects."""

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._turns: list[Turn] = []
        self._at = 0  # the turn that is shown
        self._width = 0  # of the labels so far
        self._open = False  # the label of that turn is shown

    def take(self, event: Event) -> None:
        """The next event."""
        match event:
            case TextDelta():
                self._writing(event).text.append(event.text)
            case ValueBound():
                self._bound(event)
        self._show()

    def close(self, console: Console | None = None) -> None:
        """Show what is left: the run is over, or was ended. Here, if nothing was shown so far."""
        self._console = self._console or console
        for turn in self._turns:
            turn.done = True
        self._show()

    def unfinished(self) -> dict[str, str]:
        """What was written of the variables that have no value yet."""
        return {turn.label: "".join(turn.text) for turn in self._turns if not turn.done}

    def _writing(self, event: TextDelta) -> Turn:
        key = (event.node, event.path, event.sample)
        for turn in reversed(self._turns):
            if (turn.node, turn.path, turn.sample) == key:
                return turn
        label = label_of(event.name, event.path) + (f"({event.sample})" if event.sample else "")
        turn = Turn(event.name, event.path, event.node, event.sample, label)
        self._turns.append(turn)
        return turn

    def _bound(self, event: ValueBound) -> None:
        """The variable is through: on its state, or where a branch begins with its sample."""
        branch = re.fullmatch(r"(.*)/\d+\.(\d+)", event.path)
        drawn = (branch[1], int(branch[2])) if branch else (None, 0)
        written = [
            turn
            for turn in self._turns
            if (turn.node, turn.path) == (event.node, event.path)
            or (not turn.done and (turn.name, turn.path, turn.sample) == (event.name, *drawn))
        ]
        for turn in written:
            turn.done = True
        if not written:  # a choice, or an empty text
            label = label_of(event.name, event.path)
            value = event.value if isinstance(event.value, str) else as_json(event.value)
            turn = Turn(event.name, event.path, event.node, 0, label, [value], done=True)
            self._turns.append(turn)

    def _show(self) -> None:
        while self._console is not None and self._at < len(self._turns):
            turn = self._turns[self._at]
            if not self._open:
                self._width = max(self._width, len(turn.label))
                self._console.print(
                    Text(self._gutter(turn.label), colour_of(turn.path)), end="", soft_wrap=True
                )
                self._open = True
            for piece in turn.text[turn.shown :]:
                self._piece(turn, piece)
            turn.shown = len(turn.text)
            if not turn.done:
                return
            self._console.print()
            self._open = False
            self._at += 1

    def _piece(self, turn: Turn, piece: str) -> None:
        assert self._console is not None, "only a console shows anything"
        shown = Text()
        for number, line in enumerate(printable(piece).split("\n")):
            if number:
                shown.append("\n" + self._gutter(""), colour_of(turn.path))
            shown.append(line)
        self._console.print(shown, end="", soft_wrap=True)

    def _gutter(self, label: str) -> str:
        return f"{label:{self._width}} │ "


def label_of(name: str, path: str) -> str:
    """`tip[0]` for the variable on branch 0, `tip[0][1]` on a branch of that; calls by number."""
    places = [
        f"[{match[1]}]" if match[1] is not None else f"@{match[2]}"
        for match in _PLACE.finditer(path)
    ]
    return name + "".join(places)


def colour_of(path: str) -> str:
    """Branches beside each other differ."""
    last = re.search(r"(\d+)$", path)
    return "bold" if last is None else f"bold {_COLOURS[int(last[1]) % len(_COLOURS)]}"

"""What a section of the page is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reporting.records import Record
from reporting.tables import plain

FOLDER = Path("pictures")  # from where the page is


@dataclass(slots=True)
class Body:
    """Paragraphs and tables, and the pictures that go with them."""

    parts: list[str] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)  # SVG by the name of its file

    def say(self, text: str) -> None:
        self.parts.append(text)

    def show(self, name: str, svg: str, told: str) -> None:
        """A picture; `told` is what is to be seen on it, for who cannot."""
        file = f"performance-{name}.svg"
        self.pictures[file] = svg
        self.parts.append(f"![{told}]({(FOLDER / file).as_posix()})")


@dataclass(frozen=True, slots=True)
class Section:
    """One file of results, drawn."""

    title: str
    result: str  # the name of the file
    command: str
    about: str
    draw: Callable[[Record, Body], None]

    def body(self, records: Mapping[str, Record]) -> Body:
        body = Body([f"## {self.title}", self.about])
        record = records.get(self.result)
        if record is None:
            body.say(f"Not measured yet: `{self.command}`.")
            return body
        self.draw(record, body)
        body.say(record.where())
        return body


def unknown(record: Record, body: Body) -> None:
    """Results that no section is for."""
    body.say(plain(record.rows))

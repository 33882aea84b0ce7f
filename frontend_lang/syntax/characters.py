"""How long a source can be, and which characters cannot stand in it."""

import re

from ramet.limits import Limits
from ramet.syntax.source import Source

_FOREIGN = re.compile("^\ufeff|[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def check_characters(source: Source, limits: Limits) -> None:
    """Raise if the source is too long, or has what no program can have."""
    text, most = source.text, limits.source_bytes
    if len(text) > most:
        limits.hold("source_bytes", len(text), source.cut(most + 1).span(most))
    if (foreign := _FOREIGN.search(text)) is not None:
        source.mistake(source.span(foreign.start()), _says(foreign.group()))
        source.check()
    if (size := len(text.encode())) > most:
        limits.hold("source_bytes", size, source.span(len(text) - 1))


def _says(character: str) -> str:
    match character:
        case "\r":
            return (
                "the line ends in CR LF; save the file with LF ends, "
                "since a prompt must not depend on the editor"
            )
        case "\ufeff":
            return "the source begins with a byte order mark; save it as UTF-8 without one"
        case _:
            return f"the character U+{ord(character):04X} cannot stand in a program"

"""Texts made fit to be shown: nothing invisible, and cut into a few short lines.

Widths are counted in cells: a letter of a fixed-width font is one, an ideograph two, and an emoji
three, which is more than any common font draws. Knows no graph.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

NEWLINE = "↵"
ELLIPSIS = "…"
_NEWLINES = re.compile("\n+")
_JOINERS = {"\u200c", "\u200d"}  # within words of some scripts, and within emoji
_EMBEDDING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_MAX_CLUSTER = 8  # code points of one letter with its marks; more are not drawn
_SCAN = 16  # code points looked at for each cell there is room for


def printable(text: str) -> str:
    """The text with a visible sign for each control, each lone surrogate and noncharacter.

    Line feeds and tabs stay. What changes the direction of the text around it counts as a control.
    """
    return "".join(map(_shown, text))


def _shown(char: str) -> str:
    code = ord(char)
    if char in "\n\t" or 0x20 <= code < 0x7F:
        return char
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    hidden = unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or code in _EMBEDDING
    return f"⟨{code:04X}⟩" if hidden or code & 0xFFFE == 0xFFFE else char


def cells(text: str) -> int:
    """How wide the text is, newlines aside."""
    return sum(size for _, size in _clusters(text))


def clipped(text: str, width: int) -> str:
    """The text, or as much of it as fits with an ellipsis, on one line."""
    if len(text) <= width * _SCAN and cells(text) <= width:
        return text.replace("\n", NEWLINE)
    return _shortened(text[: width * _SCAN].replace("\n", NEWLINE), width - 1) + ELLIPSIS


def wrapped(text: str, width: int, limit: int) -> list[str]:
    """The text in at most `limit` lines of at most `width` cells; an ellipsis stands for the rest.

    A sign stands for each newline; those after a letter also end the line. Takes time in
    `width × limit`, however long the text is.
    """
    room = max(width, 4)
    seen = text[: _SCAN * room * limit]
    lines: list[str] = []
    line: list[tuple[str, int]] = []
    used = space = 0  # cells of the line, and how many of its letters end with its last space
    for letter, size in _clusters(_NEWLINES.sub(_signs, seen)):
        if letter != "\n" and used + size <= room:
            line.append((letter, size))
            used += size
            space = len(line) if letter == " " else space
            continue
        kept = len(line) if letter in " \n" or not space else space
        lines.append("".join(letter for letter, _ in line[:kept]).rstrip(" "))
        line = line[kept:] + ([] if letter in " \n" else [(letter, size)])
        used, space = sum(size for _, size in line), 0
        if len(lines) > limit:
            break
    if line:
        lines.append("".join(letter for letter, _ in line))
    if len(lines) <= limit and len(seen) == len(text):
        return lines
    *first, last = lines[:limit]
    return [*first, _shortened(last, room - 1) + ELLIPSIS]


def _signs(newlines: re.Match[str]) -> str:
    return NEWLINE * len(newlines[0]) + ("\n" if newlines.start() else "")


def _shortened(line: str, width: int) -> str:
    kept: list[str] = []
    used = 0
    for letter, size in _clusters(line):
        used += size
        if used > width:
            break
        kept.append(letter)
    return "".join(kept).rstrip()


def _clusters(text: str) -> Iterator[tuple[str, int]]:
    """Letters with their marks, and emoji with what joins them, each with its cells."""
    start = 0
    for at in range(1, len(text) + 1):
        if at < len(text) and _continues(text, start, at):
            continue
        cluster = text[start:at]
        yield "".join(islice(cluster, _MAX_CLUSTER)), _width(cluster)
        start = at


def _continues(text: str, start: int, at: int) -> bool:
    char = text[at]
    if char in _JOINERS or ord(char) in _SKIN_TONES or unicodedata.category(char) in ("Mn", "Me"):
        return True
    if text[at - 1] == "\u200d":
        return ord(char) > 0x2000
    flags = _is_flag(char) and _is_flag(text[at - 1])
    return flags and (at - start) == 1


def _is_flag(char: str) -> bool:
    return 0x1F1E6 <= ord(char) <= 0x1F1FF


def _width(cluster: str) -> int:
    first = cluster[0]
    if first == "\t":
        return 4
    if 0x1F000 <= ord(first) < 0x20000 or "\ufe0f" in cluster:
        return 3
    return 2 if unicodedata.east_asian_width(first) in "WF" else 1

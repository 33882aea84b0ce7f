"""The colours of a picture, for light and for dark. A test holds their contrast.

Every picture brings its own background, so it can be read on any page.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours as #rrggbb. A kind's colour is that of its heading and its card's left edge."""

    page: str
    lane: str
    frame: str
    card: str
    outline: str
    text: str
    note: str
    flow: str
    reference: str
    keep: str
    kinds: dict[str, str]


LIGHT = Palette(
    page="#ffffff",
    lane="#f6f8fa",
    frame="#eef2f7",
    card="#ffffff",
    outline="#d0d7de",
    text="#1f2328",
    note="#59636e",
    flow="#8c959f",
    reference="#5261ad",
    keep="#1a7f37",
    kinds={
        "program": "#1f2328",
        "text": "#8c959f",
        "gen": "#0969da",
        "sample": "#0969da",
        "select": "#8250df",
        "score": "#0f766e",
        "fork": "#59636e",
        "keep": "#1a7f37",
        "end": "#59636e",
        "return": "#1f2328",
    },
)

DARK = Palette(
    page="#0d1117",
    lane="#151b23",
    frame="#1c232c",
    card="#0d1117",
    outline="#3d444d",
    text="#f0f6fc",
    note="#a3adb8",
    flow="#6e7681",
    reference="#9aa8f0",
    keep="#3fb950",
    kinds={
        "program": "#f0f6fc",
        "text": "#6e7681",
        "gen": "#58a6ff",
        "sample": "#58a6ff",
        "select": "#c297ff",
        "score": "#2dd4bf",
        "fork": "#a3adb8",
        "keep": "#3fb950",
        "end": "#a3adb8",
        "return": "#f0f6fc",
    },
)

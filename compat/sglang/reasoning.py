"""Parts what a reasoning model thinks from what it says. Text only."""

from dataclasses import dataclass
from typing import NamedTuple

from ramet.errors import near_miss

__all__ = ["ReasoningParser"]


@dataclass(frozen=True, slots=True)
class _Marks:
    begin: str = "<think>"
    end: str = "</think>"
    at_once: bool = False  # the template opens the reasoning, so the text begins inside of it


_MARKS = {
    "deepseek-r1": _Marks(at_once=True),
    "deepseek-v3": _Marks(),
    "glm45": _Marks(),
    "interns1": _Marks(),
    "kimi": _Marks("◁think▷", "◁/think▷"),
    "kimi_k2": _Marks(at_once=True),
    "minimax": _Marks(at_once=True),
    "qwen3": _Marks(),
    "qwen3-thinking": _Marks(at_once=True),
    "step3": _Marks(at_once=True),
}


class Parted(NamedTuple):
    reasoning: str
    normal: str


class ReasoningParser:
    """For one kind of model; raises `ValueError` for a kind that is not known."""

    def __init__(self, model_type: str | None) -> None:
        name = (model_type or "").lower()
        if name not in _MARKS:
            raise ValueError(
                f"unknown reasoning model type {model_type!r}{near_miss(name, _MARKS)}; "
                f"expected one of {', '.join(_MARKS)}"
            )
        self._marks = _MARKS[name]

    def parse_non_stream(self, text: str) -> Parted:
        """The reasoning, and the text without it; both without the space around them."""
        marks = self._marks
        if not marks.at_once and marks.begin not in text:
            return Parted("", text)
        inside = text.replace(marks.begin, "", 1).strip()
        reasoning, _, normal = inside.partition(marks.end)
        return Parted(reasoning.strip(), normal.strip())

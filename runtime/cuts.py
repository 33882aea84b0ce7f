"""Where a text can be cut so that its halves are encoded as the whole is, whatever follows it.

A tokenizer that first splits its text by a regular expression, left to right, finds the same pieces
from a piece's beginning on whether or not it has seen what is before; and what is appended changes
only the pieces at the end. Knows of a tokenizer its description, and how it splits.
"""

import json
import re
from typing import Any

from tokenizers import Tokenizer as Backend

# Appended text reaches back into a run of blanks and the piece before it, say. Three is one more.
_LAST = 3
# A pattern that asks what is before, what is far behind, or where the text begins or ends.
_AWARE = re.compile(r"\(\?[=!<]|\\[AbBGzZ]|(?<!\[)\^|\$")


class Cuts:
    """The cuts of one tokenizer's texts."""

    def __init__(self, backend: Backend) -> None:
        spec = json.loads(backend.to_str())
        normalizer = spec["normalizer"]
        self._splits: Any = backend.pre_tokenizer
        self._local = (
            (normalizer is None or normalizer["type"] == "NFC")
            and _is_local(spec["pre_tokenizer"])
            and not any(map(_disturbs, spec["added_tokens"]))
        )

    def last(self, text: str) -> int:
        """The last place to cut; 0 if none is certain. It is before a blank and a letter or digit,
        with more than blanks before it."""
        if not self._local:
            return 0
        pieces = self._splits.pre_tokenize_str(text)
        for _, (start, _) in reversed(pieces[1:-_LAST]):
            if text[start] == " " and text[start + 1].isalnum() and not text[:start].isspace():
                return start
        return 0


def _is_local(splitter: dict[str, Any] | None) -> bool:
    """Whether pieces are found left to right, without a look at what is before them."""
    match splitter:
        case {"type": "Sequence"}:
            return all(map(_is_local, splitter["pretokenizers"]))
        case {"type": "Split", "pattern": {"Regex": pattern}}:
            return not _AWARE.search(pattern.replace(r"(?!\S)", ""))
        case {"type": "Digits"} | {"type": "ByteLevel", "add_prefix_space": False}:
            return True
        case _:
            return False


def _disturbs(token: dict[str, Any]) -> bool:
    """Whether an added token, which is found before the text is split, can hold a cut, or begin
    behind one."""
    content = token["content"]
    return " " in content or content[:1].isalnum() or token["lstrip"] or token["rstrip"]

"""The pages under docs/: their code blocks, and what is said to come out of them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"


def page_of(name: str) -> str:
    """The text of docs/`name`.md."""
    return (DOCS / f"{name}.md").read_text()


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    words: str  # behind the language, on the line of the fence
    code: str
    line: int
    follows: "Block | None"  # the block before it, where nothing stands between

    @property
    def name(self) -> str:
        """That of its last program."""
        return re.findall(r"(?:program|def) (\w+)\(", self.code)[-1]

    def __str__(self) -> str:
        return f"{self.name}:{self.line}"

    @property
    def arguments(self) -> dict[str, Any]:
        """`topic="tea" n=2` behind the language, each value as JSON."""
        words, found = self.words.removeprefix("error").strip(), {}
        while words:
            name, _, rest = words.partition("=")
            found[name], end = json.JSONDecoder().raw_decode(rest)
            words = rest[end:].strip()
        return found


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page's text, in order."""
    found: list[Block] = []
    end = 0
    for fence in re.finditer(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```\n", page, re.MULTILINE):
        near = bool(found) and not page[end : fence.start()].strip()
        line = page.count("\n", 0, fence.start()) + 1
        found.append(Block(fence[1], fence[2], fence[3], line, found[-1] if near else None))
        end = fence.end()
    return found


def told(block: Block, blocks: list[Block]) -> str | None:
    """What the ```text block right after this one says."""
    return next((b.code for b in blocks if b.language == "text" and b.follows is block), None)


def pairs_of(blocks: list[Block]) -> list[tuple[Block, Block]]:
    """The ```ramet blocks with a ```python block right after them: the same program."""
    return [
        (each.follows, each)
        for each in blocks
        if each.language == "python" and each.follows is not None
        if each.follows.language == "ramet"
    ]

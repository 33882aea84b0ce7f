"""The README's programs run as they stand, on the embedded model, with fewer tokens."""

import asyncio
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet.passes import simplify
from ramet.runtime import AsyncEngine, Engine

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return [re.sub(r"max_tokens=\d+", "max_tokens=4", block) for block in found]


def test_the_readmes_programs_run(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = blocks("python")
    names: dict[str, Any] = {"reviews": ["Great.", "Awful."], "topics": ["tea", "milk"]}
    names |= {"asyncio": asyncio, "AsyncEngine": AsyncEngine, "Engine": Engine}
    exec(compile(first, "README.md", "exec"), names)
    exec(compile(second, "README.md", "exec"), names)
    wrapped = "async def main():\n" + textwrap.indent(third, "    ") + "    return results\n"
    exec(compile(wrapped, "README.md", "exec"), names)
    results = asyncio.run(names["main"]())
    (text,) = blocks("ramet")
    trace = ramet.loads(text).trace(topic="tea")
    assert simplify(trace) == simplify(names["tips"].trace(topic="tea"))

    printed = capsys.readouterr().out
    assert "Usage(" in printed
    assert "TextDelta(" in printed
    assert "= gen %" in printed
    assert [type(result).__name__ for result in results] == ["Finished", "Finished"]


def test_the_tree_in_the_readme_names_every_module() -> None:
    root = Path(__file__).parent.parent
    for room in ("frontend_lang", "cache", "kernels/ops", "runtime", "compat/sglang"):
        for path in (root / room).glob("*.py"):
            assert path.name == "__init__.py" or re.search(rf"^  {path.name}\b", README, re.M), path


def test_every_page_is_linked() -> None:
    root = Path(__file__).parent.parent
    links = re.findall(r"\]\(([\w/.-]+)\)", README)
    assert all((root / link).exists() for link in links)
    assert {f"docs/{page.name}" for page in (root / "docs").glob("*.md")} <= {*links}

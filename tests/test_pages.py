"""Every block of the pages on features runs on SmolLM2, and prints what the page says.

A ```ramet block runs with the arguments behind the word. ```python blocks run in their order, with
`ramet` and `engine`, and print what the ```text block after them says. One that is marked as an
error raises it.
"""

from collections.abc import Iterator
from typing import Any

import pytest

import ramet
from ramet.runtime import Engine
from tests.pages import blocks_of, page_of, told

PAGES = ["beams", "healing", "samples", "select", "typed"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine("smollm2-135m") as engine:
        yield engine


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page(
    page: str, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"ramet": ramet, "engine": engine, "__name__": page}
    blocks = blocks_of(page_of(page))
    engine.core.pool.clear()  # a page says what is computed, not what another left
    for block in blocks:
        error = None
        try:
            if block.language == "ramet":
                engine.run(ramet.loads(block.code), **block.arguments)
            elif block.language == "python":
                exec(compile(block.code, f"{page}.md:{block.line}", "exec"), names)
        except ramet.RametError as raised:
            error = raised
            print(error)
        assert (error is not None) == block.words.startswith("error"), f"{page}.md:{block.line}"
        printed = capsys.readouterr().out
        assert printed == (told(block, blocks) or ""), f"{page}.md:{block.line}"
        engine.audit()
    assert {block.language for block in blocks} <= {"ramet", "python", "text", "sh"}

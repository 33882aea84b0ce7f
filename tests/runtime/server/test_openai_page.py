"""docs/server-openai.md: its programs run against a server, and it names every metric."""

import re
from typing import Any

import pytest

from tests.pages import blocks_of, page_of, told
from tests.runtime.conftest import ToyEngine
from tests.runtime.server.live import live

PAGE = "server-openai"


def test_the_programs_of_the_page(
    toy_engine: ToyEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = blocks_of(page_of(PAGE))
    with live(toy_engine(context=128)) as served:
        names: dict[str, Any] = {"url": served.url, "key": "none", "__name__": PAGE}
        for block in blocks:
            if block.language == "python":
                exec(compile(block.code, f"{PAGE}.md:{block.line}", "exec"), names)
                assert capsys.readouterr().out == (told(block, blocks) or ""), block.line
        names["client"].close()
    assert {block.language for block in blocks} == {"python", "text", "sh", "json"}


def test_its_lines_that_only_ask_are_answered(toy_engine: ToyEngine) -> None:
    lines = "".join(block.code for block in blocks_of(page_of(PAGE)) if block.language == "sh")
    with live(toy_engine()) as served:
        for line in re.findall(r"curl ([^-\n]*localhost:8000\S+)$", lines, re.MULTILINE):
            path = line.split("localhost:8000")[1]
            assert served.http.get(path).status_code == 200


def test_the_page_names_every_metric(toy_engine: ToyEngine) -> None:
    with live(toy_engine()) as served:
        text = served.http.get("/metrics").text
    families = set(re.findall(r"^# TYPE (ramet_\w+?)(?:_total|_created)? ", text, re.MULTILINE))
    missing = [name for name in sorted(families) if name not in page_of(PAGE)]
    assert not missing

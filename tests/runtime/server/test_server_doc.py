"""The curl lines of docs/server.md, run in their order; `...` stands for anything."""

import asyncio
import re
import subprocess
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

from ramet.runtime import AsyncEngine, Engine
from ramet.runtime.server import ServerConfig, create_app
from ramet.runtime.server.serve import Listener, listen
from tests.pages import blocks_of, page_of, told

ADDRESS = "http://127.0.0.1:8000"
PAGE = page_of("server")


def test_the_page_has_a_line_for_every_route_of_programs() -> None:
    for route in ("programs", "programs/check", "programs/plan", "library", "library/count/runs"):
        assert f"{ADDRESS}/v1/{route} " in PAGE or f"{ADDRESS}/v1/{route}\n" in PAGE
    for method in ("PUT", "DELETE"):
        assert f"-X {method} " in PAGE


def test_the_limits_of_the_page_are_those_of_the_server() -> None:
    config = ServerConfig()
    for name in re.findall(r"^\| (`.*?) \|", PAGE.partition("## Limits")[2], re.MULTILINE):
        for each in re.findall(r"`(\w+)`", name):
            assert hasattr(config, each) or hasattr(config.program, each), each


def test_the_curl_lines(tmp_path: Path) -> None:
    for name, text in re.findall(r"`([\w.]+)`:\n\n```json\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text)
    blocks = blocks_of(PAGE)
    checker, id = OutputChecker(), ""

    def run(url: str) -> None:
        nonlocal id
        for block in blocks:
            if block.language != "sh":
                continue
            script = block.code.replace(ADDRESS, url)
            script = re.sub(r"^(curl .*)$", r"\1; echo", script, flags=re.MULTILINE)
            out = subprocess.run(
                ["bash", "-c", script],
                cwd=tmp_path,
                env={"ID": id, "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert out.returncode == 0, out.stderr
            if found := re.match(r'{"id":"((?:prog|pin)_\w+)"', out.stdout):
                id = found[1]
            wanted = told(block, blocks)
            assert wanted is not None, block.line
            lines, want = _lines(out.stdout), _lines(wanted)
            assert checker.check_output(want, lines, ELLIPSIS), f"server.md:{block.line}\n{lines}"

    async def main() -> None:
        async with AsyncEngine.of(Engine("smollm2-135m")) as engine:
            config = ServerConfig(port=0)
            listener = Listener(create_app(engine, config))
            with listen(config) as listening:
                serving = asyncio.create_task(listener.serve([listening]))
                port = listening.getsockname()[1]
                await asyncio.to_thread(run, f"http://127.0.0.1:{port}")
                listener.should_exit = True
                await serving

    asyncio.run(main())


def _lines(text: str) -> str:
    return "".join(f"{line}\n" for line in text.split("\n") if line)

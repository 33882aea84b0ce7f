"""The curl lines of docs/server.md, run in their order (`...` stands for anything), and that the
pages have one for every route.
"""

import asyncio
import re
import shlex
import subprocess
from collections.abc import Iterator
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path
from urllib.parse import urlsplit

from starlette.routing import compile_path

from ramet.runtime import AsyncEngine, Engine
from ramet.runtime.server import ServerConfig, create_app
from ramet.runtime.server.serve import Listener, listen
from ramet.runtime.tokenizer import Tokenizer
from tests.pages import blocks_of, page_of, told
from tests.runtime.server.serving import Served, routes_of, serve

ADDRESS = "http://127.0.0.1:8000"
PAGE = page_of("server")


def test_every_route_has_a_curl_line(byte_tokenizer: Tokenizer) -> None:
    asked = {*_asked("server"), *_asked("server-openai")}

    async def body(served: Served) -> None:
        routes = {(method, path) for method, path in routes_of(served.app.routes)}
        found = {
            (method, path)
            for method, path in routes
            if any(method == how and compile_path(path)[0].match(what) for how, what in asked)
        }
        assert {("POST", "/v1/programs"), ("GET", "/openapi.json"), ("GET", "/")} <= found
        assert {each for each in routes - found if each[0] != "HEAD"} == set()

    serve(byte_tokenizer, body)


def test_every_curl_line_asks_a_route(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        for method, path in (*_asked("server"), *_asked("server-openai")):
            assert any(
                method == how and compile_path(what)[0].match(path)
                for how, what in routes_of(served.app.routes)
            ), (method, path)

    serve(byte_tokenizer, body)


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


def _asked(page: str) -> Iterator[tuple[str, str]]:
    """Method and path of every curl line of a page."""
    for block in blocks_of(page_of(page)):
        if block.language == "sh":
            for line in re.findall(r"^curl .*", block.code.replace("\\\n", ""), re.MULTILINE):
                words = shlex.split(line)
                (url,) = (word for word in words if ":8000" in word)
                method = "POST" if {"--json", "-d"} & {*words} else "GET"
                if "-X" in words:
                    method = words[words.index("-X") + 1]
                yield method, urlsplit(url if "://" in url else f"http://{url}").path

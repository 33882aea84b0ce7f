"""A library with a folder outlives its server: whole programs, whatever happened meanwhile."""

import asyncio
import errno
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

import ramet
from ramet.limits import Limits
from ramet.runtime import Engine, EngineConfig
from ramet.runtime.cli import serving
from ramet.runtime.server import ServerConfig, shelf as shelf_module
from ramet.runtime.server.serve import serve as serve_it
from ramet.runtime.server.shelf import Label, LibraryError, Shelf
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.cli import ramet as ramet_command
from tests.runtime.conftest import ToyModel
from tests.runtime.server.serving import Served, serve

TIPS = 'program tips(topic: str):\n    "Tips about {topic}:"\n    gen tip(max_tokens=6)\n'
OTHER = 'program other():\n    "x"\n    gen y(max_tokens=2)\n'
KEYS = {"a-key": "alice", "b-key": "bob"}
BOB = {"Authorization": "Bearer b-key"}


async def put(served: Served, name: str, source: str = TIPS, **more: Any) -> httpx2.Response:
    return await served.client.put(f"/v1/library/{name}", json={"source": source}, **more)


async def names(served: Served) -> list[str]:
    return [each["name"] for each in (await served.client.get("/v1/library")).json()["data"]]


def stored(tokenizer: Tokenizer, folder: Path, *all_names: str, **config: Any) -> list[Path]:
    """The files of programs that a server stored there."""

    async def body(served: Served) -> None:
        for name in all_names:
            assert (await put(served, name)).status_code in (200, 201)

    serve(tokenizer, body, library_folder=folder, **config)
    return sorted(folder.glob("*/*.program"))


def test_programs_are_there_after_a_restart(byte_tokenizer: Tokenizer, tmp_path: Path) -> None:
    told: dict[str, Any] = {}

    async def before(served: Served) -> None:
        await put(served, "tea", OTHER)
        told["tea"] = (await put(served, "tea")).json()
        told["two"] = (
            await served.client.put(
                "/v1/library/two", json={"source": TIPS + OTHER, "program": "tips"}
            )
        ).json()
        await put(served, "gone")
        assert (await served.client.delete("/v1/library/gone")).status_code == 200
        await put(served, "mine", OTHER, headers=BOB)
        run = {"arguments": {"topic": "x"}}
        told["run"] = (await served.client.post("/v1/library/tea/runs", json=run)).json()

    async def after(served: Served) -> None:
        assert await names(served) == ["tea", "two"]
        for name in ("tea", "two"):
            assert (await served.client.get(f"/v1/library/{name}")).json() == told[name]
        assert (await served.client.get("/v1/library/mine")).status_code == 404
        bobs = await served.client.get("/v1/library/mine", headers=BOB)
        assert bobs.json()["program"] == "other"
        run = {"arguments": {"topic": "x"}}
        again = (await served.client.post("/v1/library/tea/runs", json=run)).json()
        assert again["result"]["value"] == told["run"]["result"]["value"]
        assert (await served.client.get("/v1/library/gone")).status_code == 404

    config: dict[str, Any] = {"keys": KEYS, "key": "a-key", "library_folder": tmp_path / "a" / "b"}
    serve(byte_tokenizer, before, **config)
    serve(byte_tokenizer, after, **config)


def test_graphs_are_stored_too(byte_tokenizer: Tokenizer, tmp_path: Path) -> None:
    graph = json.loads(ramet.to_json(ramet.loads(OTHER).compile().graph))

    async def before(served: Served) -> None:
        assert (await served.client.put("/v1/library/g", json={"graph": graph})).status_code == 201

    async def after(served: Served) -> None:
        assert (await served.client.post("/v1/library/g/runs", json={})).status_code == 200

    serve(byte_tokenizer, before, library_folder=tmp_path)
    serve(byte_tokenizer, after, library_folder=tmp_path)


def test_no_word_of_a_client_is_a_path(byte_tokenizer: Tokenizer, tmp_path: Path) -> None:
    files = stored(byte_tokenizer, tmp_path, "...", "a", "A", "lock")
    assert len(files) == 4
    for file in tmp_path.rglob("*"):
        words = set("".join(file.relative_to(tmp_path).parts)) - set("program.lock")
        assert words <= set("0123456789abcdef"), file

    async def after(served: Served) -> None:
        assert await names(served) == ["...", "A", "a", "lock"]

    serve(byte_tokenizer, after, library_folder=tmp_path)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def _turn(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[-20] ^= 1
    file.write_bytes(whole)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _strange(file: Path) -> None:
    file.write_bytes(b"[1]\n{}")


def _older(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"version": 1', b'"version": 0'))


def _without_name(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"name"', b'"nome"', 1))


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("harm", [_cut, _turn, _empty, _strange, _older, _without_name, _folder])
def test_a_file_that_does_not_load_is_told_of_and_left(
    byte_tokenizer: Tokenizer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], None],
) -> None:
    stored(byte_tokenizer, tmp_path, "good", "wrong")
    (harmed,) = [f for f in tmp_path.glob("*/*.program") if b'"wrong"' in f.read_bytes()]
    harm(harmed)

    async def body(served: Served) -> None:
        assert await names(served) == ["good"]
        assert (await served.client.get("/v1/library/wrong")).status_code == 404
        assert harmed.exists()
        full = await put(served, "more")
        assert full.json()["error"]["limit"] == "library"  # it counts

    with caplog.at_level(logging.WARNING, "ramet.server"):
        serve(byte_tokenizer, body, library_folder=tmp_path, library=2)
    (said,) = [each.getMessage() for each in caplog.records if "library" in each.getMessage()]
    assert f"{harmed.parent.name}/{harmed.name} does not load" in said
    assert "Tips" not in said


def test_a_file_that_does_not_load_can_be_replaced_or_deleted(
    byte_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for file in stored(byte_tokenizer, tmp_path, "a", "b"):
        _turn(file)

    async def body(served: Served) -> None:
        assert await names(served) == []
        assert (await put(served, "a")).status_code == 201
        assert (await served.client.delete("/v1/library/b")).status_code == 200
        assert (await served.client.delete("/v1/library/b")).status_code == 404
        assert (await put(served, "c")).status_code == 201
        assert (await put(served, "d")).status_code == 400

    async def after(served: Served) -> None:
        assert await names(served) == ["a", "c"]

    serve(byte_tokenizer, body, library_folder=tmp_path, library=2)
    serve(byte_tokenizer, after, library_folder=tmp_path, library=2)


def test_programs_and_places_that_changed(
    byte_tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (file,) = stored(byte_tokenizer, tmp_path, "a")
    file.rename(moved := file.with_name("0" * 32 + ".program"))

    async def nothing(served: Served) -> None:
        assert await names(served) == []

    serve(byte_tokenizer, nothing, library_folder=tmp_path)
    moved.rename(file)
    serve(byte_tokenizer, nothing, library_folder=tmp_path, program=Limits(statements=1))
    said = [each.getMessage() for each in caplog.records if "does not load" in each.getMessage()]
    assert [each.rpartition(": ")[2] for each in said] == [
        "it is another program's file",
        "LimitError",
    ]

    async def there(served: Served) -> None:
        assert await names(served) == ["a"]

    serve(byte_tokenizer, there, library_folder=tmp_path)


def test_bounds_count_what_was_stored_before(byte_tokenizer: Tokenizer, tmp_path: Path) -> None:
    stored(byte_tokenizer, tmp_path, "a", "b")

    async def body(served: Served) -> None:
        assert (await put(served, "c")).json()["error"]["limit"] == "library"
        assert (await put(served, "a")).status_code == 200

    async def bytes_(served: Served) -> None:
        large = await put(served, "c", TIPS + "#" * 600)
        assert large.json()["error"]["limit"] == "library_bytes"

    serve(byte_tokenizer, body, library_folder=tmp_path, library=2)
    serve(byte_tokenizer, bytes_, library_folder=tmp_path, library_bytes=800)


def test_a_folder_is_one_servers(byte_tokenizer: Tokenizer, tmp_path: Path) -> None:
    engine = Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=16))

    async def body(served: Served) -> None:
        config = ServerConfig(port=0, library_folder=tmp_path)
        with pytest.raises(LibraryError, match="another server has it"):
            await asyncio.to_thread(serve_it, engine, config)

    serve(byte_tokenizer, body, library_folder=tmp_path)
    Shelf(tmp_path).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(LibraryError, match="cannot be used"):
        Shelf(tmp_path / "file")


def test_the_command_line_takes_a_folder(
    byte_tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(*words: Any, **more: Any) -> Engine:
        return Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=16))

    monkeypatch.setattr(serving, "Engine", engine)
    shelf = Shelf(tmp_path)
    taken = ramet_command("serve", "--port", "0", "--library", str(tmp_path))
    shelf.close()
    assert taken.exit_code == 1
    said = " ".join(taken.output.split())
    assert f"{tmp_path} cannot be used: another server has it" in said


def test_what_the_disk_does_not_take_is_not_stored(
    byte_tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space is left")

    def folders() -> list[Path]:
        assert not [*tmp_path.rglob("*.part")]
        return [each for each in tmp_path.iterdir() if each.is_dir()]

    async def body(served: Served) -> None:
        first = (await put(served, "a")).json()
        with monkeypatch.context() as patch:
            patch.setattr(shelf_module.os, "fsync", full)
            for name in ("a", "b"):
                refused = await put(served, name, OTHER)
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] == "library_full"
                assert int(refused.headers["retry-after"]) >= 1
        assert (await served.client.get("/v1/library/a")).json() == first
        assert (await served.client.get("/v1/library/b")).status_code == 404
        (folder,) = folders()
        folder.rename(tmp_path / "aside")
        folder.write_text("a file where the folder was")
        for answer in (await put(served, "c"), await served.client.delete("/v1/library/a")):
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                503,
                "library_unwritable",
            )
        assert await names(served) == ["a"]
        folder.unlink()
        (tmp_path / "aside").rename(folder)
        assert (await put(served, "c")).status_code == 201

    async def after(served: Served) -> None:
        assert await names(served) == ["a", "c"]
        assert (await served.client.get("/v1/library/a")).json()["program"] == "tips"

    serve(byte_tokenizer, body, library_folder=tmp_path)
    assert "ENOSPC" in caplog.text
    serve(byte_tokenizer, after, library_folder=tmp_path)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(6))
def test_a_write_that_ends_anywhere_leaves_a_whole_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    left = step

    def ends(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*words: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return call(*words, **more)

        return counted

    shelf = Shelf(tmp_path)
    shelf.write(Label(tenant="t", name="n", created=1), b"before")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", ends(Path.open))
        patch.setattr(Path, "replace", ends(Path.replace))
        patch.setattr(shelf_module.os, "fsync", ends(os.fsync))
        patch.setattr(shelf_module.os, "open", ends(os.open))
        try:
            shelf.write(Label(tenant="t", name="n", created=2), b"behind")
            done = True
        except Killed:
            done = False
    shelf.close()
    again = Shelf(tmp_path)
    ((label, body),) = [again.read(file) for file in again.files()]
    again.close()
    assert (label.created, body) in ((1, b"before"), (2, b"behind"))
    assert body == b"behind" or not done
    assert done == (step == 5)
    assert not [*tmp_path.rglob("*.part")]


STORES = """
import importlib.util, itertools, pathlib, sys
spec = importlib.util.spec_from_file_location("shelf", sys.argv[1])
shelf = importlib.util.module_from_spec(spec)
sys.modules["shelf"] = shelf
spec.loader.exec_module(shelf)
there = shelf.Shelf(pathlib.Path(sys.argv[2]))
for number in itertools.count(1):
    name = f"n{number % 7}"
    body = str(number).encode() * 20_000
    there.write(shelf.Label(tenant="t", name=name, created=number), body)
    print(name, number, flush=True)
    if number % 5 == 0:
        there.delete("t", name)
        print(name, -number, flush=True)
"""


@pytest.mark.parametrize("seed", range(4))
def test_after_kill_9_there_are_whole_programs_only(tmp_path: Path, seed: int) -> None:
    words = [sys.executable, "-c", STORES, str(shelf_module.__file__), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        lines = [first, *process.stdout]
    told: dict[str, int] = {}
    for line in lines:
        if line.endswith("\n"):
            name, number = line.split()
            told[name] = int(number)
    newest = max(abs(number) for number in told.values())
    shelf = Shelf(tmp_path)
    found = {label.name: (label, body) for label, body in map(shelf.read, shelf.files())}
    shelf.close()
    for label, body in found.values():
        assert body == str(label.created).encode() * 20_000
    for name, number in told.items():  # what was told holds, but for what was under way
        if number > 0 and (newest + 1) % 7 != int(name[1:]) and newest % 7 != int(name[1:]):
            assert found[name][0].created == number
        elif number < 0 and (newest + 1) % 7 != int(name[1:]):
            assert name not in found


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_stores(byte_tokenizer: Tokenizer, tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from tests.runtime.server.serving import toy_server;"
        "toy_server(library_folder=pathlib.Path(sys.argv[1]))"
    )
    sizes: dict[str, int] = {}
    for turn in range(5):
        words = [sys.executable, "-c", code, str(tmp_path)]
        root = Path(__file__).parents[3]
        with subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            ends = time.monotonic() + random.Random(turn).uniform(0.2, 1.0)
            with httpx2.Client(base_url=url, timeout=20) as client:
                for number in range(10_000):
                    name, size = f"n{number % 9}", turn * 1_000 + number
                    if time.monotonic() > ends:
                        process.send_signal(signal.SIGKILL)
                    try:
                        source = f"{TIPS}{'#' * size}"
                        answer = client.put(f"/v1/library/{name}", json={"source": source})
                    except httpx2.HTTPError:
                        sizes.pop(name, None)  # nobody knows which of the two it is
                        break
                    assert answer.status_code in (200, 201)
                    sizes[name] = size

        async def body(served: Served) -> None:
            library = served.app.state.server.library
            assert not library._unread
            mine = {each.name: each for each in library._stored["local"].values()}
            for name, size in sizes.items():
                assert mine[name].size == len(json.dumps({"source": TIPS + "#" * size})) - 1

        serve(byte_tokenizer, body, library_folder=tmp_path)

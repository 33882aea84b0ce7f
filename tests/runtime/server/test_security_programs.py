"""Programs that are small to send and large to read, to compute or to answer: each is refused, or
bounded, and others go on.
"""

import asyncio
import gc
import time
from dataclasses import replace
from typing import Any

import pytest

from ramet.runtime.server.config import program_limits
from ramet.runtime.tokenizer import Tokenizer
from ramet.syntax.load import TextProgram
from tests.runtime.server.serving import Served, serve
from tests.runtime.server.test_security_bombs import GEN, as_served, sent

__all__ = ["as_served"]

# -- texts and values that stand in many places

LONG = "s" * 400_000
LIMITS = program_limits()
MANY = 30_000


def referring(result: Any, parts: list[Any]) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = [
        {"kind": "root"},
        {"kind": "input", "name": "s"},
        {"kind": "text", "state": 0, "parts": parts},
        {"kind": "gen", "state": 2, "name": "a", "params": {"max_tokens": 4}},
    ]
    return {"version": 1, "name": "p", "nodes": nodes, "result": result}


TIMES = 'program p(s: str):\n    "x"\n    gen a(max_tokens=4, ignore_eos=true)\n'
AMPLIFIED: dict[str, dict[str, Any]] = {
    "list": {"source": f"{TIMES}    return [s] * 100000\n"},
    "lists": {"source": f"{TIMES}    let b = [s, s, s, s, s]\n    return [b, b, b] * 6000\n"},
    "texts": {"source": f"{TIMES}    return [a for i in range(9000)]\n", "many": True},
    "template": {"source": f"{TIMES}    return join([a for i in range(9000)])\n", "many": True},
    "length": {"source": f"{TIMES}    return len(join([a for i in range(9000)]))\n", "many": True},
    "appended": {"source": f'{TIMES}    "{{join([a for i in range(9000)])}}"\n', "many": True},
    "result": {"graph": referring({"list": [{"ref": 1}] * MANY}, ["x"])},
    "text": {"graph": referring({"text": [{"ref": 1}] * MANY}, ["x"])},
    "parts": {"graph": referring(None, [{"ref": 1}] * MANY)},
    "drawn": {"graph": referring({"list": [{"ref": 3}] * MANY}, ["x"]), "s": "y"},
    "value": {"graph": referring({"list": [{"ref": 1}] * MANY}, ["x"]), "s": ["y"] * 90_000},
}


@pytest.mark.parametrize("name", [*AMPLIFIED])
def test_nothing_is_written_as_often_as_it_is_named(byte_tokenizer: Tokenizer, name: str) -> None:
    """Some of these would be gigabytes."""
    given = {**AMPLIFIED[name]}
    many, text = given.pop("many", False), given.pop("s", LONG)
    if many:
        given["source"] = given["source"].replace("max_tokens=4", "max_tokens=60")
    if "graph" in given and isinstance(text, list):
        given["graph"]["nodes"][1]["takes"] = "list"

    async def body(served: Served) -> None:
        for path in ("/v1/programs", "/v1/programs/plan"):
            answer = await sent(served, path, {**given, "arguments": {"s": text}}, seconds=30)
            assert answer.status_code in (200, 400), answer.text[:300]
            assert len(answer.content) < 10_000_000, "an answer is not much larger than its limit"
        ran = await served.client.post("/v1/programs", json={**given, "arguments": {"s": text}})
        if name not in ("drawn", "length"):
            assert ran.status_code == 400, ran.text[:300]

    serve(byte_tokenizer, body, program=replace(program_limits(), made=200_000) if many else LIMITS)


SLOW = {
    "strip": "strip(s, t)",
    "in": "t in s",
    "replace": 'len(replace(s, "s", ""))',
    "split": 'len(split(s, "sss"))',
    "compare": "s == s",
}


@pytest.mark.parametrize("name", [*SLOW])
def test_a_body_that_computes_lets_others_go_on(byte_tokenizer: Tokenizer, name: str) -> None:
    """Without a loop, too: each expression is short work, and there are thousands of them."""
    row = ", ".join([SLOW[name]] * 2_000)
    source = f'program p(s: str, t: str):\n    let a = [{row}]\n    "x"\n    gen b(max_tokens=1)\n'
    t = {"strip": "".join(map(chr, range(1_000, 1_999))) + "s"}.get(name, "s" * 200_000 + "t")
    hostile = {"source": source, "arguments": {"s": LONG, "t": t}, "limits": {"seconds": 3}}

    async def body(served: Served) -> None:
        attack = asyncio.create_task(sent(served, "/v1/programs", hostile, seconds=60))
        begun = time.perf_counter()
        while not attack.done():
            async with asyncio.timeout(5):
                stats = await served.engine.stats()
            assert stats.steps >= 0
            if time.perf_counter() - begun > 1:
                ask = {"model": "default", "prompt": "a", "max_tokens": 2}
                async with asyncio.timeout(5):
                    assert (await served.client.post("/v1/completions", json=ask)).is_success
            await asyncio.sleep(0.05)
        assert (await attack).status_code in (200, 400)
        assert time.perf_counter() - begun < 15, "its own time is bounded, too"

    serve(byte_tokenizer, body)


LENGTHY = {
    "texts": '"x{i} "',
    "values": '"{a}{a}{a}{a}{a}{a}{a}"',
    "draws": "gen b(max_tokens=1)",
}


@pytest.mark.parametrize("name", [*LENGTHY])
def test_a_program_of_many_nodes_lets_others_go_on(byte_tokenizer: Tokenizer, name: str) -> None:
    source = f"{GEN}    for i in range(9900):\n        {LENGTHY[name]}\n    gen c(max_tokens=1)\n"
    run = {"source": source, "limits": {"seconds": 2}}

    async def body(served: Served) -> None:
        planning = asyncio.create_task(sent(served, "/v1/programs/plan", {"source": source}, 60))
        running = asyncio.create_task(sent(served, "/v1/programs", run, 60))
        ask = {"model": "default", "prompt": "a", "max_tokens": 2}
        while not (planning.done() and running.done()):
            async with asyncio.timeout(5):
                assert (await served.client.post("/v1/completions", json=ask)).is_success
            await asyncio.sleep(0.05)
        assert (await planning).status_code == 200
        assert (await running).status_code in (200, 400), "done, or out of time or of room"

    serve(byte_tokenizer, body)


# -- sources with much to say about

MISTAKES = {
    "unknown names": "    let z = [" + ", ".join(f"nameq{n}" for n in range(5_000)) + "]\n",
    "near misses": "".join(f"    let nameq{n:04} = 1\n" for n in range(1_500))
    + "    let z = [" + ", ".join(f"namep{n:04}" for n in range(2_000)) + "]\n",
    "long line": '    "' + "{x}" * 15_000 + '"\n',
    "operators": "    let z = " + " + ".join(["1"] * 12_000) + "\n",
    "digits": "    let z = " + "9" * 60_000 + "\n",
    "maps": "    let z = {" + ", ".join(f'"{n}": 1' for n in range(5_000)) + "}\n",
    "strings": "    '" + "\\u0041" * 9_000 + "'\n",
    "brackets": "    let z = " + "[" * 30_000 + "\n",
    "colons": ":" * 60_000,
    "branches": "".join("    if true:\n        let a = 1\n" for _ in range(1_800)),
}  # fmt: skip


@pytest.mark.parametrize("name", [*MISTAKES])
def test_no_source_takes_long_to_read(byte_tokenizer: Tokenizer, name: str) -> None:
    source = f"program p():\n{MISTAKES[name]}"
    assert len(source) <= 65_536

    async def body(served: Served) -> None:
        for path in ("/v1/programs/check", "/v1/programs"):
            answer = await sent(served, path, {"source": source})
            assert answer.status_code in (200, 400), answer.text[:300]
            assert len(answer.content) < 200_000

    serve(byte_tokenizer, body)


def test_nothing_of_a_program_is_kept_but_what_it_came_to(byte_tokenizer: Tokenizer) -> None:
    """Of 64 KiB of text there are several MiB of tree."""

    async def body(served: Served) -> None:
        ids = []
        for number in range(24):
            sending = {"source": GEN.replace('"x"', f'"kept {number}"'), "background": True}
            ids.append((await served.client.post("/v1/programs", json=sending)).json()["id"])
        for id in ids:
            told = await served.client.get(f"/v1/programs/{id}/events")
            assert "event: done" in told.text
            view = (await served.client.get(f"/v1/programs/{id}")).json()
            assert (view["program"], view["status"]) == ("p", "done")
        await served.all_back()
        gc.collect()
        trees = [each for each in gc.get_objects() if isinstance(each, TextProgram)]
        kept = [each for each in trees if '"kept ' in each.source]
        assert len(kept) < 8, "a thread remembers the last one that it read"

    serve(byte_tokenizer, body)


def test_what_is_wrong_with_a_graph_is_told_in_short(byte_tokenizer: Tokenizer) -> None:
    wrong = referring({"list": [{"ref": 999_999}] * 40_000}, ["x"])

    async def body(served: Served) -> None:
        for path in ("/v1/programs/check", "/v1/programs"):
            answer = await sent(served, path, {"graph": wrong})
            assert len(answer.content) < 200_000, path

    serve(byte_tokenizer, body)

"""The window into the cache: what a tenant sees of it, asks it, forgets and keeps there."""

import asyncio
import re
from typing import Any

from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, serve

PROMPT = "The rivers of the world, one after the other, from north to south. "


async def completed(served: Served, prompt: str, **headers: str) -> dict[str, Any]:
    sizes = {"max_tokens": 4, "ignore_eos": True, "temperature": 0}
    body = {"model": "default", "prompt": prompt} | sizes
    answer = await served.client.post("/v1/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def spans(served: Served, **headers: str) -> list[dict[str, Any]]:
    answer = await served.client.get("/v1/cache", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["spans"]


def test_the_tree_shows_texts_and_what_they_saved(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        assert await spans(served) == []
        await completed(served, PROMPT + "First the Nile, of course.")
        await completed(served, PROMPT + "Then the Amazon, which is wide.")
        root, nile, *below = await spans(served)
        assert PROMPT.startswith(root["text"])
        assert (root["above"], root["start"], root["held"]) == (None, 0, 0)
        assert root["found"] == root["tokens"]
        assert "First the Nil" in nile["text"]
        assert 0 < nile["found"] < nile["tokens"], "as far as both texts agree"
        assert [span["above"] for span in below] == [0, 1]

    serve(byte_tokenizer, body)


def test_explain_names_the_text_at_which_a_prompt_misses(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        await completed(served, PROMPT + "First the Nile, of course.")
        asked = {"prompt": PROMPT + "First the Rhine."}
        answer = (await served.client.post("/v1/cache/explain", json=asked)).json()
        assert answer["text_found"].endswith("First the ")
        assert answer["wanted"]["text"].startswith("Rhi")
        assert answer["nearest"][0]["text"].startswith("Nil")
        assert answer["evicted"] is False
        whole = {"messages": [{"role": "user", "content": "Hello"}]}
        answer = await served.client.post("/v1/cache/explain", json=whole)
        assert answer.status_code == 200
        for wrong in ({}, {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}):
            assert (await served.client.post("/v1/cache/explain", json=wrong)).status_code == 400

    serve(byte_tokenizer, body)


def test_forgetting_a_prefix_leaves_the_others(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        await completed(served, PROMPT + "First the Nile, of course.")
        await completed(served, "Something else entirely, as long as a block or two.")
        assert len(await spans(served)) == 2
        post, asked = served.client.post, {"prompt": PROMPT}
        assert (await post("/v1/cache/forget", json=asked)).json()["blocks"] > 0
        (left,) = await spans(served)
        assert left["text"].startswith("Something else")
        assert (await post("/v1/cache/forget", json=asked)).json() == {"blocks": 0}
        chat = {"messages": [{"role": "user", "content": "Something else"}]}
        assert (await post("/v1/cache/forget", json=chat)).json() == {"blocks": 0}
        assert (await post("/v1/cache/forget", json={})).status_code == 400
        assert (await served.client.delete("/v1/cache")).json()["blocks"] == left["blocks"]
        assert await spans(served) == []

    serve(byte_tokenizer, body)


def test_forgetting_all_takes_no_prefix(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        await completed(served, PROMPT)
        answer = await served.client.delete("/v1/cache", params={"prefix": PROMPT})
        assert answer.status_code == 400
        assert "/v1/cache/forget" in answer.json()["error"]["message"]
        assert await spans(served)

    serve(byte_tokenizer, body)


def test_a_tenant_sees_and_forgets_its_own_part_only(byte_tokenizer: Tokenizer) -> None:
    one, two = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}

    async def body(served: Served) -> None:
        await completed(served, PROMPT, **one)
        assert await spans(served, **two) == []
        asked = {"prompt": PROMPT}
        answer = await served.client.post("/v1/cache/explain", json=asked, headers=two)
        assert (answer.json()["found"], answer.json()["nearest"]) == (0, [])
        gone = await served.client.delete("/v1/cache", headers=two)
        assert gone.json() == {"blocks": 0}
        assert await spans(served, **one)

    serve(byte_tokenizer, body, keys={"one": "first", "two": "second"})


def test_what_is_pinned_outlives_what_came_later(byte_tokenizer: Tokenizer) -> None:
    async def found(served: Served) -> int:
        answer = await served.client.post("/v1/cache/explain", json={"prompt": PROMPT})
        return answer.json()["found"]

    async def flood(served: Served) -> None:
        for number in range(40):
            await completed(served, f"{number:03} " * 32)

    async def body(served: Served) -> None:
        asked = {"prompt": PROMPT, "seconds": 60}
        pin = await served.client.post("/v1/cache/pins", json=asked)
        assert pin.status_code == 201
        (listed,) = (await served.client.get("/v1/cache/pins")).json()["pins"]
        assert listed["id"] == pin.json()["id"]
        assert 0 < listed["seconds_left"] <= 60
        await completed(served, PROMPT)
        before = await found(served)
        await flood(served)
        assert await found(served) >= before - 16
        assert (await served.client.delete(f"/v1/cache/pins/{listed['id']}")).status_code == 200
        assert (await served.client.delete(f"/v1/cache/pins/{listed['id']}")).status_code == 404
        await flood(served)
        assert await found(served) == 0

    serve(byte_tokenizer, body)


def test_a_pin_ends_by_itself_and_has_a_quota(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        post = served.client.post
        asked = {"prompt": PROMPT, "seconds": 0.05}
        assert (await post("/v1/cache/pins", json=asked)).status_code == 201
        await asyncio.sleep(0.1)
        assert (await served.client.get("/v1/cache/pins")).json() == {"pins": []}
        for prompt, code in (("x" * 3000, "pin_quota_exceeded"), ("x" * 15, "pin_too_short")):
            refused = await post("/v1/cache/pins", json={"prompt": prompt, "seconds": 60})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)
        ids = set()
        for seconds in (60, 20):
            pin = await post("/v1/cache/pins", json={"prompt": "x" * 500, "seconds": seconds})
            ids.add(pin.json()["id"])
        assert len(ids) == 2
        assert all(re.fullmatch("pin_[0-9a-f]{24}", id) for id in ids), "no count of others' pins"
        refused = await post("/v1/cache/pins", json={"prompt": "x" * 500, "seconds": 60})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "20")

    serve(byte_tokenizer, body)

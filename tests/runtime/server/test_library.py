"""`/v1/library`: stored once, run often; each tenant its own."""

from typing import Any

from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, serve

TIPS = 'program tips(topic: str):\n    "Tips about {topic}:"\n    gen tip(max_tokens=6)\n'
KEYS = {"a-key": "alice", "b-key": "bob"}


def test_a_stored_program_runs_by_its_name(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        client = served.client
        first = await client.put("/v1/library/tea", json={"source": TIPS})
        assert first.status_code == 201
        assert first.json()["parameters"] == [{"name": "topic", "type": "str"}]
        assert first.json()["plan"]["generated"] == 6
        assert (await client.put("/v1/library/tea", json={"source": TIPS})).status_code == 200
        got = (await client.get("/v1/library/tea")).json()
        assert got["plan"] == first.json()["plan"]
        listed = (await client.get("/v1/library")).json()["data"]
        assert [each["name"] for each in listed] == ["tea"]

        arguments = {"topic": "tea"}
        stored = await client.post("/v1/library/tea/runs", json={"arguments": arguments})
        sent = await client.post("/v1/programs", json={"source": TIPS, "arguments": arguments})
        assert stored.json()["result"]["value"] == sent.json()["result"]["value"]
        batch = await client.post(
            "/v1/library/tea/runs", json={"batch": [arguments, {"topic": "milk"}]}
        )
        assert batch.json()["results"][0]["result"]["value"] == stored.json()["result"]["value"]

        assert (await client.delete("/v1/library/tea")).json() == {"name": "tea", "deleted": True}
        assert (await client.delete("/v1/library/tea")).status_code == 404
        assert (await client.post("/v1/library/tea/runs", json={})).status_code == 404

    serve(byte_tokenizer, body)


def test_what_is_wrong_is_not_stored(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        wrong = await served.client.put(
            "/v1/library/x", json={"source": 'program p():\n    "{a}"\n'}
        )
        assert wrong.status_code == 400
        assert wrong.json()["error"]["diagnostics"][0]["line"] == 2
        assert (await served.client.get("/v1/library/x")).status_code == 404
        for name in ("a b", "é", "x" * 65):
            answer = await served.client.put(f"/v1/library/{name}", json={"source": TIPS})
            assert answer.status_code == 400, name

    serve(byte_tokenizer, body)


def test_a_library_holds_so_many_and_no_more(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        async def put(name: str) -> int:
            return (
                await served.client.put(f"/v1/library/{name}", json={"source": TIPS})
            ).status_code

        assert [await put(name) for name in "aba"] == [201, 201, 200]
        assert await put("c") == 400
        await served.client.delete("/v1/library/a")
        assert await put("c") == 201

    serve(byte_tokenizer, body, library=2)


def test_a_library_holds_so_many_bytes(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        async def put(name: str, size: int) -> int:
            sent = {"source": TIPS + "#" * (size - len(TIPS))}
            return (await served.client.put(f"/v1/library/{name}", json=sent)).status_code

        assert await put("a", 4_000) == 201
        assert await put("b", 4_000) == 201
        assert await put("c", 4_000) == 400
        assert await put("b", 5_500) == 200  # instead of what it was
        assert await put("c", 400) == 400
        await served.client.delete("/v1/library/a")
        assert await put("c", 4_000) == 201

    serve(byte_tokenizer, body, library_bytes=9_800)


def test_a_library_is_its_tenants_own(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        def bob(**more: Any) -> dict[str, Any]:
            return {"headers": {"Authorization": "Bearer b-key"}, **more}

        await served.client.put("/v1/library/mine", json={"source": TIPS})
        assert (await served.client.get("/v1/library/mine", **bob())).status_code == 404
        assert (await served.client.get("/v1/library", **bob())).json()["data"] == []
        run = bob(json={"arguments": {"topic": "x"}})
        assert (await served.client.post("/v1/library/mine/runs", **run)).status_code == 404
        assert (await served.client.delete("/v1/library/mine", **bob())).status_code == 404
        assert (await served.client.get("/v1/library/mine")).status_code == 200

    serve(byte_tokenizer, body, keys=KEYS, key="a-key")

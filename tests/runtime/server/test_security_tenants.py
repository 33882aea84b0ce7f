"""What is a tenant's is nobody else's, by whatever name it is asked for."""

from typing import Any

from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, serve

OWN = {"model": "default", "max_tokens": 1}


def test_what_is_anothers_is_not_there(byte_tokenizer: Tokenizer) -> None:
    """Every route with a name of something: the answer is that for what never was."""
    alice, bob = ({"Authorization": f"Bearer {key}"} for key in ("a-key", "b-key"))
    text = "alone with my thoughts, " * 4
    source = {"source": 'program p(t: str):\n    "{t}"\n    gen a(max_tokens=1)\n'}

    async def body(served: Served) -> None:
        async def told(method: str, path: str, who: Any, **more: Any) -> tuple[int, bytes]:
            answer = await served.client.request(method, path, headers=who, **more)
            return answer.status_code, answer.content

        run = {**source, "arguments": {"t": text}, "background": True}
        made = await served.client.post("/v1/programs", json=run, headers=alice)
        program = made.json()["id"]
        pinned = {"prompt": text, "seconds": 60}
        made = await served.client.post("/v1/cache/pins", json=pinned, headers=alice)
        pin = made.json()["id"]
        await served.client.put("/v1/library/mine", json=source, headers=alice)
        never, zeros = "0" * 24, {"arguments": {"t": "x"}}
        for method, path, id, absent, more in (
            ("GET", "/v1/programs/{}", program, f"prog_{never}", {}),
            ("GET", "/v1/programs/{}/events", program, f"prog_{never}", {}),
            ("DELETE", "/v1/programs/{}", program, f"prog_{never}", {}),
            ("DELETE", "/v1/cache/pins/{}", pin, f"pin_{never}", {}),
            ("GET", "/v1/library/{}", "mine", "none", {}),
            ("DELETE", "/v1/library/{}", "mine", "none", {}),
            ("POST", "/v1/library/{}/runs", "mine", "none", {"json": zeros}),
        ):
            theirs = await told(method, path.format(id), bob, **more)
            nobodys = await told(method, path.format(absent), bob, **more)
            assert theirs[0] == nobodys[0] == 404
            assert theirs[1].replace(id.encode(), b"") == nobodys[1].replace(absent.encode(), b"")
        for path, key in (
            ("/v1/library", "data"),
            ("/v1/cache/pins", "pins"),
            ("/v1/cache", "spans"),
        ):
            answer = await served.client.get(path, headers=bob)
            assert answer.json()[key] == [], path
        for prefix in (program[:6], "prog_", "%", "*", program.upper(), program + "%00"):
            assert (await told("DELETE", f"/v1/programs/{prefix}", bob))[0] in (404, 405)
            assert (await told("DELETE", f"/v1/programs/{prefix}", alice))[0] in (404, 405)
        assert (await told("DELETE", "/v1/cache", bob))[0] == 200
        assert (await told("POST", "/flush_cache", bob))[0] == 200
        assert (await told("GET", f"/v1/programs/{program}", alice))[0] == 200
        assert (await told("GET", "/v1/library/mine", alice))[0] == 200
        assert (await told("DELETE", f"/v1/cache/pins/{pin}", alice))[0] == 200
        metrics = await told("GET", "/metrics", bob)
        assert b"alice" not in metrics[1]
        assert text.encode() not in metrics[1]

    serve(byte_tokenizer, body, keys={"a-key": "alice", "b-key": "bob"})


def test_who_is_asked_for_is_who_has_the_key(byte_tokenizer: Tokenizer) -> None:
    """No header, and no field, makes somebody another tenant."""
    text = "known to alice alone, " * 9

    async def body(served: Served) -> None:
        ask = {**OWN, "prompt": text}
        key = {"Authorization": "Bearer a-key"}
        await served.client.post("/v1/completions", json=ask, headers=key)
        tricks = [
            {"X-Tenant": "alice"},
            {"X-Forwarded-User": "alice"},
            {"OpenAI-Organization": "alice"},
            {"Cookie": "tenant=alice"},
        ]
        for trick in tricks:
            headers = {**trick, "Authorization": "Bearer b-key"}
            named = {**ask, "user": "alice"}
            answer = await served.client.post("/v1/completions", json=named, headers=headers)
            cached = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
            await served.client.delete("/v1/cache", headers=headers)
            assert cached == 0
            assert answer.status_code == 200

    serve(byte_tokenizer, body, keys={"a-key": "alice", "b-key": "bob"})

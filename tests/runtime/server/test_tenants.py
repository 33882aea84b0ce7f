"""Keys and tenants: every route asks for a key, and nobody sees anything of another's."""

import asyncio

import pytest

from ramet.runtime.server.auth import Keys
from ramet.runtime.server.middleware import OPEN
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, routes_of, serve

KEYS = {"a-key": "alice", "b-key": "bob", "c-key": "alice"}
SOURCE = 'program p(t: str):\n    "{t}"\n    gen a(max_tokens=4, ignore_eos=true)\n'


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_every_route_but_two_needs_a_key(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        routes = [*routes_of(served.app.routes)]
        paths = {path for _, path in routes}
        assert {"/v1/programs", "/v1/library/{name}", "/openapi.json", *OPEN} <= paths
        assert sorted(OPEN) == ["/health", "/ready"]
        wrong = [{}, bearing("nobody"), bearing(""), {"Authorization": "Basic a-key"}]
        for method, path in routes:
            for headers in wrong:
                url = path.replace("{", "").replace("}", "").replace(":path", "")
                answer = await served.client.request(method, url, headers=headers)
                if path in OPEN:
                    assert answer.status_code == 200
                else:
                    assert answer.status_code == 401, (method, path)
                    assert method == "HEAD" or answer.json()["error"]["code"] == "invalid_api_key"
                    first, second = answer.headers.get_list("www-authenticate")
                    assert (first.split()[0], second.split()[0]) == ("Basic", "Bearer")

    serve(byte_tokenizer, body, keys=KEYS)


def test_a_browser_gives_a_key_as_its_password(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        for user, key, status in (("", "a-key", 200), ("me", "a-key", 200), ("a-key", "x", 401)):
            answer = await served.client.get("/", auth=(user, key))
            assert answer.status_code == status
        for broken in ("Basic", "Basic ä", "Basic YS1rZXk"):
            headers = {b"Authorization": broken.encode()}
            assert (await served.client.get("/", headers=headers)).status_code == 401

    serve(byte_tokenizer, body, keys=KEYS)


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LocalHost:8000", 200), ("127.0.0.1:1", 200), ("[::1]:80", 200),
     ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("10.0.0.1:8000", 403), ("", 403)],
)  # fmt: skip
def test_without_keys_nobody_comes_by_another_name(
    byte_tokenizer: Tokenizer, host: str, status: int
) -> None:
    async def body(served: Served) -> None:
        answer = await served.client.get("/v1/cache", headers={"Host": host})
        assert answer.status_code == status

    serve(byte_tokenizer, body)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 200), ({"Sec-Fetch-Site": "same-origin"}, 200), ({"Sec-Fetch-Site": "none"}, 200),
     ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
     ({"Origin": "http://localhost"}, 200), ({"Origin": "https://LocalHost"}, 200),
     ({"Origin": "http://evil.example"}, 403), ({"Origin": "http://localhost:3000"}, 403),
     ({"Origin": "null"}, 403),
     ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403)],
)  # fmt: skip
@pytest.mark.parametrize("keys", [{}, {"a-key": "alice"}])
def test_another_site_changes_nothing(
    byte_tokenizer: Tokenizer, headers: dict[str, str], status: int, keys: dict[str, str]
) -> None:
    async def body(served: Served) -> None:
        auth = ("me", "a-key")
        answer = await served.client.post("/flush_cache", headers=headers, auth=auth)
        assert answer.status_code == status, answer.text
        if status == 403:
            assert answer.json()["error"]["code"] == "cross_site"
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert (await served.client.get("/", headers=headers, auth=auth)).status_code == 200

    serve(byte_tokenizer, body, keys=keys)


@pytest.mark.parametrize(
    "path",
    ["//v1/programs/x", "/V1/programs/x", "/v1/programs/x/", "/health/", "/health/../v1/library",
     "/%68ealth/x", "/v1%2fprograms", "/ready;x", "/nothing"],
)  # fmt: skip
def test_no_way_around_the_key(byte_tokenizer: Tokenizer, path: str) -> None:
    async def body(served: Served) -> None:
        for method in ("GET", "POST", "OPTIONS", "BREW"):
            answer = await served.client.request(method, path)
            assert answer.status_code == 401, (method, path)

    serve(byte_tokenizer, body, keys=KEYS)


def test_a_key_is_one_header_and_whole() -> None:
    keys = Keys({"a-key": "alice", "b-key": "bob"})
    alice = keys.tenant([b"Bearer a-key"])
    assert alice is not None
    assert alice.name == "alice"
    assert keys.tenant([b"bearer a-key"]) == alice
    for wrong in (
        [],
        [b"a-key"],
        [b"Bearer"],
        [b"Bearer "],
        [b"Bearer a-ke"],
        [b"Bearer a-key2"],
        [b"Bearer \xff"],
        [b"Bearer a-key", b"Bearer a-key"],
        [b"Bearer a-key", b"Bearer b-key"],
    ):
        assert keys.tenant(wrong) is None


def test_keys_of_one_tenant_share_and_those_of_two_do_not(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        async def reused(key: str, text: str) -> int:
            answer = await served.client.post(
                "/v1/programs",
                json={"source": SOURCE, "arguments": {"t": text}},
                headers=bearing(key),
            )
            return answer.json()["result"]["usage"]["prompt_reused"]

        text = "shared by nobody else " * 10
        assert await reused("a-key", text) == 0
        assert await reused("b-key", text) == 0
        assert await reused("a-key", text) > 150
        assert await reused("c-key", text) > 150
        together = await asyncio.gather(*(reused(key, text * 2) for key in ("a-key", "b-key")))
        assert max(together) < len(text) + 10

    serve(byte_tokenizer, body, keys=KEYS)


def test_anothers_program_is_one_that_is_not_there(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        answer = await served.client.post(
            "/v1/programs",
            json={"source": SOURCE, "arguments": {"t": "x"}, "background": True},
            headers=bearing("a-key"),
        )
        id = answer.json()["id"]
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
            theirs = await served.client.request(
                method, f"/v1/programs/{id}{path}", headers=bearing("b-key")
            )
            absent = await served.client.request(
                method, f"/v1/programs/prog_0{path}", headers=bearing("b-key")
            )
            assert theirs.status_code == absent.status_code == 404
            assert theirs.content == absent.content
        mine = await served.client.get(f"/v1/programs/{id}", headers=bearing("c-key"))
        assert mine.status_code == 200

    serve(byte_tokenizer, body, keys=KEYS)


def test_one_tenants_idempotency_key_is_not_anothers(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        ids = set()
        for key in ("a-key", "b-key"):
            answer = await served.client.post(
                "/v1/programs",
                json={"source": SOURCE, "arguments": {"t": "x"}},
                headers={**bearing(key), "Idempotency-Key": "same"},
            )
            ids.add(answer.json()["id"])
        assert len(ids) == 2

    serve(byte_tokenizer, body, keys=KEYS)

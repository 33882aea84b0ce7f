"""The document says which statuses and shapes each route answers with; each is seen here."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
from jsonschema import Draft202012Validator

from ramet.runtime.server.document import ERRORS
from ramet.runtime.server.middleware import OPEN
from ramet.runtime.server.program_shapes import EVENTS
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, serve

KEYED = {"keys": {"a-key": "me"}, "key": "a-key"}
EVERYTHING = """\
program everything(n: int = 2, name: str = "Bo"):
    "Tips for {name}."
    fork i in range(n) as tips:
        "{i}"
        gen tip(max_tokens=3, ignore_eos=true, logprobs=2)
        fork j in range(2) as parts:
            "{j}"
            gen part(max_tokens=2, ignore_eos=true)
    select mood from [" good", " bad"]
    gen several(max_tokens=2, n=2, temperature=1.0, ignore_eos=true)
    gen found(max_tokens=3, beams=2)
    gen card: regex(r"[0-9]{2,3}") (max_tokens=9)
    score likely of " so it is"
    return {"tips": tips.tip, "mood": mood, "likely": likely}
"""
KEEPS = """\
program keeps():
    "x"
    fork i in range(2) as ways:
        gen each(max_tokens=2, ignore_eos=true)
    keep ways[0]
"""
SHORT = 'program p(n: int = 3):\n    "x"\n    gen a(max_tokens=n, ignore_eos=true)\n'
ENDLESS = 'program p():\n    "x"\n    gen a(max_tokens=4000, ignore_eos=true)\n'
CHAT = [{"role": "user", "content": "Hi"}]
COMPLETION = {"model": "toy", "prompt": "Hi", "max_tokens": 3}
GENERATE = {"text": "Hi", "sampling_params": {"max_new_tokens": 3}}


class Document:
    """The document, which holds answers against what it says."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.paths: dict[str, dict[str, Any]] = told["paths"]
        self.components = told["components"]
        self.seen: set[tuple[str, str, int, str]] = set()
        self.events: set[str | None] = set()

    def operations(self) -> Iterable[tuple[str, str, dict[str, Any]]]:
        for path, methods in self.paths.items():
            for method, operation in methods.items():
                yield method.upper(), path, operation

    def validate(self, value: Any, schema: dict[str, Any]) -> None:
        Draft202012Validator({**schema, "components": self.components}).validate(value)

    def hold_event(self, event: dict[str, str], schema: dict[str, Any]) -> None:
        """By its name, or the one of those without; the data too, which is JSON."""
        name = event.get("event")
        of = schema.get("anyOf", [schema])
        kinds = [each["properties"] for each in of]
        [kind] = [each for each in kinds if each.get("event", {}).get("const") == name]
        data = kind["data"].get("anyOf", [kind["data"]])
        if {"const": event["data"]} not in data:
            shapes = [each["contentSchema"] for each in data if "contentSchema" in each]
            self.validate(json.loads(event["data"]), {"anyOf": shapes})
        self.events.add(name)

    def hold(self, method: str, path: str, answer: httpx2.Response) -> None:
        """Assert that it says so of this answer to a request of that path, a template."""
        responses = self.paths[path][method.lower()]["responses"]
        status = answer.status_code
        assert str(status) in responses, (method, path, status, answer.text)
        kind = answer.headers.get("content-type", "").partition(";")[0]
        content = responses[str(status)].get("content", {})
        assert kind in content or not (kind or content), (method, path, status, kind)
        if kind == "application/json":
            self.validate(answer.json(), content[kind]["schema"])
        if kind == "text/event-stream":
            for event in events_of(answer.text):
                self.hold_event(event, content[kind]["itemSchema"])
        if status in (429, 503):
            assert int(answer.headers["retry-after"]) >= 1
        self.seen.add((method, path, status, kind))


def events_of(text: str) -> Iterable[dict[str, str]]:
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith(":")]
        if lines:
            yield dict(line.split(": ", 1) for line in lines)


@dataclass
class Asker:
    """Sends requests, and holds the answers against the document."""

    served: Served
    document: Document
    headers: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, method: str, path: str, *what: Any, **names: Any) -> httpx2.Response:
        """For what is right."""
        answer = await self.answer(method, path, *what, **names)
        assert answer.status_code < 300, (method, path, answer.text)
        return answer

    async def answer(
        self, method: str, path: str, body: Any = None, *, headers: Any = None, **names: str
    ) -> httpx2.Response:
        more: dict[str, Any] = {} if body is None else {"json": body}
        answer = await self.served.client.request(
            method, path.format(**names), headers=headers, **more
        )
        self.document.hold(method, path, answer)
        return answer


async def document_of(served: Served) -> Document:
    return Document((await served.client.get("/openapi.json")).json())


async def ask_for_everything(ask: Asker) -> None:
    """Each route, with all that it answers where nothing is wrong."""
    for path in ("/health", "/ready", "/metrics", "/v1/models", "/model_info", "/get_model_info",
                 "/server_info", "/get_server_info", "/health_generate"):  # fmt: skip
        await ask("GET", path)
    await ask("GET", "/v1/models/{id}", id="toy")
    await ask("POST", "/tokenize", {"prompt": "Hi", "return_token_strs": True})
    await ask("POST", "/tokenize", {"messages": CHAT})
    await ask("POST", "/detokenize", {"tokens": [1, 2]})
    await ask_for_programs(ask)
    await ask_for_texts(ask)
    await ask_for_the_cache(ask)


async def ask_for_programs(ask: Asker) -> None:
    for body in (
        {"source": EVERYTHING, "seed": 1},
        {"source": EVERYTHING, "batch": [{}, {"n": 1}, {"n": "two"}]},
        {"source": EVERYTHING, "stream": True},
        {"source": EVERYTHING, "batch": [{}, {"n": "two"}], "stream": True},
        {"source": KEEPS, "stream": True},
    ):
        await ask("POST", "/v1/programs", body)
    started = await ask("POST", "/v1/programs", {"source": ENDLESS, "background": True})
    id = started.json()["id"]
    assert (await ask("GET", "/v1/programs/{id}", id=id)).json()["status"] == "running"
    gone = await ask("DELETE", "/v1/programs/{id}", id=id)
    assert gone.json()["status"] == "cancelled"
    headers = {"Idempotency-Key": "k"}
    for body in ({"source": SHORT}, {"source": SHORT, "background": True}):
        done = await ask("POST", "/v1/programs", body, headers=headers)
    assert done.json()["status"] == "done", "the same run, which is over"
    await ask("GET", "/v1/programs/{id}/events", id=done.json()["id"])
    await ask("DELETE", "/v1/programs", headers=headers)
    for source in (EVERYTHING, ENDLESS, "program p(:", 'program p():\n    "{a}"\n    gen b(c=1)\n'):
        await ask("POST", "/v1/programs/check", {"source": source})
    await ask("POST", "/v1/programs/check", {"graph": {"version": 1}})
    await ask("POST", "/v1/programs/plan", {"source": EVERYTHING})
    looking = (
        'program p(a: str):\n    "x"\n    gen b(max_tokens=2)\n    if b == "y":\n        "z"\n'
    )
    await ask("POST", "/v1/programs/plan", {"source": looking})
    for _ in range(2):
        await ask("PUT", "/v1/library/{name}", {"source": EVERYTHING}, name="all")
    await ask("GET", "/v1/library")
    await ask("GET", "/v1/library/{name}", name="all")
    for more in ({}, {"stream": True}, {"background": True}):
        await ask("POST", "/v1/library/{name}/runs", more, name="all")
    await ask("DELETE", "/v1/library/{name}", name="all")


async def ask_for_texts(ask: Asker) -> None:
    for more in (
        {},
        {"n": 2, "temperature": 1},
        {"echo": True, "logprobs": 2, "prompt": ["a", "né"]},
        {"max_tokens": 0},
        {"max_tokens": 0, "echo": True, "logprobs": 1},
        {"beams": 2, "logprobs": 1, "temperature": 0},
        {"stop": "a", "max_tokens": 50},
        {"stream": True},
    ):
        await ask("POST", "/v1/completions", COMPLETION | more)
    for more in ({}, {"logprobs": True, "top_logprobs": 2, "n": 2}, {"stream": True}):
        body = {"model": "toy", "messages": CHAT, "max_tokens": 5}
        await ask("POST", "/v1/chat/completions", body | more)
    logprobs = {"return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": 2}
    for more in (
        {},
        {"text": ["a", "b"]},
        {**logprobs, "return_text_in_logprobs": True},
        {**logprobs, "sampling_params": {"max_new_tokens": 0}},
        {"sampling_params": {"stop": ["a", "b"], "max_new_tokens": 60}},
        {"sampling_params": {"n": 2, "max_new_tokens": 2}},
        {"stream": True},
    ):
        await ask("POST", "/generate", GENERATE | more)
    await ask("POST", "/flush_cache")


async def ask_for_the_cache(ask: Asker) -> None:
    long = "You are an expert on everything that there is."
    await ask("POST", "/v1/completions", COMPLETION | {"prompt": long})
    assert (await ask("GET", "/v1/cache")).json()["spans"]
    explained = await ask("POST", "/v1/cache/explain", {"prompt": f"{long[:20]}!"})
    assert explained.json()["nearest"]
    pin = await ask("POST", "/v1/cache/pins", {"prompt": long, "seconds": 9})
    await ask("GET", "/v1/cache/pins")
    await ask("DELETE", "/v1/cache/pins/{id}", id=pin.json()["id"])
    await ask("POST", "/v1/cache/forget", {"messages": CHAT})
    await ask("DELETE", "/v1/cache")


def test_every_answer_that_is_no_error_is_seen_and_as_it_is_told(
    byte_tokenizer: Tokenizer,
) -> None:
    async def body(served: Served) -> None:
        document = await document_of(served)
        await ask_for_everything(Asker(served, document))
        told = {
            (method, path, int(status), kind)
            for method, path, operation in document.operations()
            for status, response in operation["responses"].items()
            for kind in response.get("content", {"": None})
            if status.startswith("2")
        }
        assert {each for each in document.seen if each[2] < 300} == told
        assert document.events == {*EVENTS, None}

    serve(byte_tokenizer, body, model="toy", **KEYED)


def test_errors_have_the_shape_that_is_told(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        document = await document_of(served)
        ask = Asker(served, document)

        async def refused(status: int, method: str, path: str, *more: Any, **names: Any) -> None:
            assert (await ask.answer(method, path, *more, **names)).status_code == status

        typed = {"regex": "b", "allowed_token_ids": [0]}
        await refused(400, "POST", "/v1/programs", {"source": "program p(:"})
        await refused(400, "POST", "/v1/programs", {"source": SHORT, "limits": {"tokens": 1}})
        await refused(400, "POST", "/v1/programs", {"graph": {}})
        await refused(
            400, "GET", "/v1/programs/{id}/events", headers={"Last-Event-ID": "x"}, id="x"
        )
        await refused(400, "GET", "/v1/library/{name}", name="a b")
        await refused(400, "DELETE", "/v1/library/{name}", name="a b")
        await refused(401, "GET", "/v1/models", headers={"Authorization": "Bearer other"})
        await refused(403, "POST", "/flush_cache", headers={"Origin": "http://elsewhere"})
        await refused(404, "GET", "/v1/programs/{id}", id="prog_x")
        await refused(404, "DELETE", "/v1/cache/pins/{id}", id="pin_x")
        await refused(404, "GET", "/v1/models/{id}", id="gpt")
        await refused(404, "POST", "/tokenize", {"model": "gpt", "prompt": "a"})
        for seed, status in ((1, 200), (2, 409)):
            await refused(
                status,
                "POST",
                "/v1/programs",
                {"source": SHORT, "seed": seed},
                headers={"Idempotency-Key": "k"},
            )
        await refused(413, "POST", "/tokenize", {"prompt": "a" * 30_000})
        await refused(422, "POST", "/v1/completions", COMPLETION | typed)
        await refused(429, "POST", "/v1/completions", COMPLETION | {"prompt": ["a"] * 4})
        await refused(429, "POST", "/v1/programs", {"source": SHORT, "batch": [{}] * 4})
        served.model.fail_at = {served.model.forwards}
        await refused(503, "POST", "/v1/completions", COMPLETION)
        long = await ask("POST", "/v1/programs", {"source": ENDLESS, "background": True})
        path, id = "/v1/programs/{id}/events", long.json()["id"]
        for _ in range(500):
            gone = await served.client.get(f"/v1/programs/{id}")
            if gone.json()["status"] != "running":
                break
            await asyncio.sleep(0.01)
        await refused(410, "GET", path, headers={"Last-Event-ID": "1"}, id=id)
        # Nothing waits here for the 30 seconds of 408.
        assert {each[2] for each in document.seen if each[2] >= 400} == ERRORS.keys() - {408}

    limits = {"body_bytes": 20_000, "tenant": 3, "prompts": 4, "log_bytes": 2_000}
    serve(byte_tokenizer, body, model="toy", context=400, **limits, **KEYED)


def test_every_route_is_described_and_every_error_is_one_shape(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        document = await document_of(served)
        assert {"HTTPValidationError", "ValidationError"}.isdisjoint(document.components["schemas"])
        assert document.components["securitySchemes"].keys() == {"bearer", "password"}
        for method, path, operation in document.operations():
            place = f"{method} {path}"
            assert operation["description"].endswith("."), place
            assert operation["tags"], place
            assert ("security" in operation) == (path not in OPEN), place
            responses = operation["responses"]
            assert ("401" in responses) == (path not in OPEN), place
            assert "requestBody" not in operation or {"400", "408", "413"} <= responses.keys()
            for status, response in responses.items():
                if int(status) >= 400 and path not in OPEN:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Error"}, place
                for content in response.get("content", {}).values():
                    assert content.get("schema") or content["itemSchema"], f"{place}: {status}"

    serve(byte_tokenizer, body, **KEYED)


def test_a_server_without_keys_tells_of_none(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        answer = await served.client.get("/openapi.json")
        assert "securitySchemes" not in answer.json()["components"]
        assert '"401"' not in json.dumps(answer.json()["paths"])

    serve(byte_tokenizer, body)

"""Who would be refused for want of room is refused before anything is read."""

import pytest

from ramet.runtime.server.auth import LOCAL
from ramet.runtime.server.gate import RUNS, SMALL
from ramet.runtime.server.turns import Turns
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, routes_of, serve

PATHS = (
    "/v1/programs",
    "/v1/library/tips/runs",
    "/v1/completions",
    "/v1/chat/completions",
    "/generate",
)
NO_JSON = b"{"
SOURCE = "program p():\n    gen a(max_tokens=1)\n"


@pytest.mark.parametrize("path", PATHS)
def test_a_full_server_reads_nothing(byte_tokenizer: Tokenizer, path: str) -> None:
    async def body(served: Served) -> None:
        turns: Turns = served.app.state.server.runs.turns
        taken = turns.reserve(LOCAL)
        full = await served.client.post(path, content=NO_JSON)
        assert (full.status_code, full.json()["error"]["code"]) == (503, "queue_full")
        assert int(full.headers["retry-after"]) >= 1
        turns.release(taken)
        assert (await served.client.post(path, content=NO_JSON)).status_code == 400

    serve(byte_tokenizer, body, running=1, queue=0)


def test_who_may_ask_for_what_is_there_passes(byte_tokenizer: Tokenizer) -> None:
    """A run under its key, what runs nothing, and a body that is still on its way."""

    async def body(served: Served) -> None:
        turns: Turns = served.app.state.server.runs.turns
        client, ask = served.client, {"source": SOURCE}
        named = {"Idempotency-Key": "mine"}
        first = await client.post("/v1/programs", json=ask, headers=named)
        taken = turns.reserve(LOCAL)
        again = await client.post("/v1/programs", json=ask, headers=named)
        assert again.json() == first.json()
        assert (await client.post("/v1/programs/check", json=ask)).status_code == 200
        assert (await client.get("/v1/programs/prog_0")).status_code == 404
        large = await client.post("/v1/programs", content=b" " * SMALL + NO_JSON)
        assert large.status_code == 400
        turns.release(taken)

    serve(byte_tokenizer, body, running=1, queue=0)


def test_a_server_that_drains_refuses_at_the_gate(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        served.app.state.server.runs.turns.closed = True
        answer = await served.client.post("/v1/programs", content=NO_JSON)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")

    serve(byte_tokenizer, body)


def test_the_gate_knows_every_route_that_runs(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        posts = {path for method, path in routes_of(served.app.routes) if method == "POST"}
        runs = {path for path in posts if RUNS.fullmatch(path.replace("{name}", "tips"))}
        assert {path.replace("{name}", "tips") for path in runs} == set(PATHS)

    serve(byte_tokenizer, body)

"""Clients that leave at any moment: all they had is back at once, and nobody else notices."""

import json
import random
import socket
import time
from typing import Any

import pytest

from ramet.runtime import Engine, EngineConfig
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyModel, toy_words
from tests.runtime.server.live import Live, live

LONG: dict[str, Any] = {"model": "toy", "max_tokens": 3000, "ignore_eos": True}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {**LONG, "prompt": "go on"}),
    ("/v1/completions", {**LONG, "prompt": "a long prompt " * 90}),
    ("/v1/completions", {**LONG, "prompt": ["several", "of", "them"], "n": 2}),
    ("/v1/completions", {**LONG, "prompt": "beams", "beams": 4}),
    ("/v1/completions", {**LONG, "prompt": "scored " * 50, "echo": True, "logprobs": 3}),
    ("/v1/completions", {**LONG, "prompt": "typed", "regex": "([a-z]{1,40} ){400}"}),
    ("/v1/chat/completions", {**LONG, "messages": [{"role": "user", "content": "Hi"}], "n": 3}),
    ("/generate", {"text": "go", "sampling_params": {"max_new_tokens": 3000, "ignore_eos": True}}),
]


def ask_and_leave(served: Live, path: str, body: dict[str, Any], after: float) -> None:
    """Send a request, read for so many seconds what comes, and close the connection."""
    host, port = served.url.removeprefix("http://").split(":")
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data)
        time.sleep(after)


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_at_any_moment(served: Live, stream: bool) -> None:
    dice = random.Random(stream)
    for path, body in REQUESTS * 3:
        ask_and_leave(
            served, path, {**body, "stream": stream and "n" not in body}, dice.random() / 25
        )
    assert served.all_back(within=1.0)
    answer = served.openai.completions.create(
        model="toy", prompt="still here", max_tokens=8, temperature=0
    )
    assert answer.choices[0].text == toy_words(served.engine.tokenizer, "still here", 8)


def test_leaving_the_queue(byte_tokenizer: Tokenizer) -> None:
    engine = Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=256))
    with live(engine, model="toy", running=1) as served:
        body = {**LONG, "prompt": "first", "stream": True}
        with served.http.stream("POST", "/v1/completions", json=body) as first:
            lines = first.iter_lines()
            next(lines)
            for _ in range(8):
                ask_and_leave(served, "/v1/completions", {**LONG, "prompt": "later"}, 0.005)
            time.sleep(0.1)
            told = served.http.get("/metrics").text
            assert "ramet_num_runs_waiting 0.0" in told
            assert "ramet_num_runs_running 1.0" in told
        assert served.all_back(within=1.0)

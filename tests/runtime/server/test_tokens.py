"""`/tokenize` and `/detokenize`."""

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ramet.runtime.server.openai.prompts import Prompts
from ramet.runtime.tokenizer import Piece, Tokenizer
from tests.runtime.server.live import Live
from tests.runtime.server.serving import Served, serve


def tokenize(served: Live, **body: Any) -> dict[str, Any]:
    answer = served.http.post("/tokenize", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text())
def test_there_and_back(served: Live, text: str) -> None:
    told = tokenize(served, prompt=text)
    assert told["count"] == len(told["tokens"])
    back = served.http.post("/detokenize", json={"tokens": told["tokens"]})
    assert back.json() == {"prompt": text}


def test_control_tokens(served: Live) -> None:
    assert tokenize(served, prompt="a<eos>")["tokens"][-1] == 256
    plain = tokenize(served, prompt="a<eos>", parse_special=False, return_token_strs=True)
    assert plain["token_strs"] == [*"a<eos>"]
    back = served.http.post("/detokenize", json={"tokens": [256]})
    assert back.json() == {"prompt": "<eos>"}


def test_messages(served: Live) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    told = tokenize(served, messages=messages)
    encode = served.engine.tokenizer.encode
    assert told["tokens"] == encode([Piece("User: Hi\nAssistant:")], start=True)
    assert told["max_model_len"] == 4096
    closed = tokenize(served, messages=messages, add_generation_prompt=False)
    assert closed["tokens"] == encode([Piece("User: Hi\n")], start=True)


def test_what_is_refused(served: Live) -> None:
    for body in ({}, {"prompt": "a", "messages": []}, {"prompt": "a", "model": "x"}):
        assert served.http.post("/tokenize", json=body).status_code in (400, 404)
    for tokens in ([257], [-1], ["a"], None):
        assert served.http.post("/detokenize", json={"tokens": tokens}).status_code == 400


def test_long_texts_are_read_beside_the_event_loop(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def noted(of: type, name: str) -> None:
        real = getattr(of, name)

        def noting(*args: Any, **kwargs: Any) -> Any:
            threads.append(threading.current_thread())
            return real(*args, **kwargs)

        monkeypatch.setattr(of, name, noting)

    async def body(served: Served) -> None:
        post, long = served.client.post, "x" * 5000
        for asked in ({"prompt": long}, {"messages": [{"role": "user", "content": long}]}):
            assert (await post("/tokenize", json=asked)).status_code == 200
        ids = {"tokens": [1] * 5000}
        assert (await post("/detokenize", json=ids)).status_code == 200
        assert len(threads) == 3
        assert threading.main_thread() not in threads

    noted(Prompts, "whole")
    noted(Prompts, "chat")
    noted(type(byte_tokenizer.hf.backend_tokenizer), "decode")
    serve(byte_tokenizer, body, context=8192)


def test_more_tokens_than_the_context_are_refused_first(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        for path, field in (("detokenize", "tokens"), ("v1/cache/explain", "prompt")):
            for count, status in ((64, 200), (65, 400)):
                answer = await served.client.post(f"/{path}", json={field: [1] * count})
                assert answer.status_code == status, path
            assert answer.json()["error"]["code"] == "context_length_exceeded"

    serve(byte_tokenizer, body, context=64)

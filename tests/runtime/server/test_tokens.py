"""`/tokenize` and `/detokenize`."""

from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

from ramet.runtime.tokenizer import Piece
from tests.runtime.server.live import Live


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

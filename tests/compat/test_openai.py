"""Programs on a server with OpenAI's API."""

from collections.abc import Iterator
from typing import Any

import pytest

import ramet.compat.sglang as sgl
from tests.compat.fake_server import Fake, serving

USAGE = {"prompt_tokens": 5, "completion_tokens": 2}


def chat_route(body: dict[str, Any]) -> Any:
    if body.get("stream"):
        pieces = [{"choices": [{"delta": {"content": piece}}]} for piece in ("he", "llo")]
        return iter([*pieces, {"choices": [], "usage": USAGE}])
    choices = [{"message": {"content": f"hello {i}"}} for i in range(body["n"])]
    return {"choices": choices, "usage": USAGE}


def text_route(body: dict[str, Any]) -> Any:
    if body.get("echo"):
        return {"choices": [echoed(i, text) for i, text in enumerate(body["prompt"])][::-1]}
    return {"choices": [{"text": "42"}], "usage": USAGE}


def echoed(index: int, text: str) -> dict[str, Any]:
    scores = [None, *[-float(text.endswith("no"))] * (len(text) - 1)]
    offsets = list(range(len(text)))
    return {"index": index, "logprobs": {"text_offset": offsets, "token_logprobs": scores}}


@pytest.fixture
def server() -> Iterator[Fake]:
    routes = {"/chat/completions": chat_route, "/completions": text_route}
    with serving(routes) as fake:
        yield fake


@pytest.fixture
def openai(server: Fake) -> Iterator[sgl.OpenAI]:
    backend = sgl.OpenAI("gpt-4o", base_url=server.url, api_key="secret")
    yield backend
    backend.shutdown()


@pytest.fixture
def instruct(server: Fake) -> Iterator[sgl.OpenAI]:
    backend = sgl.OpenAI("gpt-3.5-turbo-instruct", base_url=server.url)
    yield backend
    backend.shutdown()


@sgl.function
def chat(s: Any, question: str) -> None:
    s += sgl.system("Be short.")
    s += sgl.user(question)
    s += sgl.assistant(sgl.gen("answer", max_tokens=9, stop=["\n"]))


def test_chat_models_get_messages(server: Fake, openai: sgl.OpenAI) -> None:
    state = chat.run(question="Hi", backend=openai, temperature=0)
    assert state["answer"] == "hello 0"
    [body] = server.bodies("/chat/completions")
    assert body["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
    ]
    assert (body["max_completion_tokens"], body["stop"], body["temperature"]) == (9, ["\n"], 0)
    assert (openai.token_usage.prompt_tokens, openai.token_usage.completion_tokens) == (5, 2)
    openai.token_usage.reset()
    assert openai.token_usage.prompt_tokens == 0


def test_samples_and_streams(openai: sgl.OpenAI) -> None:
    assert chat.run(question="Hi", backend=openai, n=2)["answer"] == ["hello 0", "hello 1"]
    state = chat.run(question="Hi", backend=openai, stream=True)
    assert "".join(state.text_iter("answer")) == "hello"
    assert openai.token_usage.completion_tokens == 4


def test_a_chat_model_writes_whole_messages(openai: sgl.OpenAI) -> None:
    @sgl.function
    def inside(s: Any) -> None:
        s += sgl.user("Hi")
        s += sgl.assistant("Well, " + sgl.gen("x"))

    @sgl.function
    def outside(s: Any) -> None:
        s += "Hi" + sgl.gen("x")

    @sgl.function
    def choose(s: Any) -> None:
        s += "Hi" + sgl.select("x", ["a", "b"])

    for program, word in ((inside, "first"), (outside, "first"), (choose, "completion model")):
        with pytest.raises(NotImplementedError, match=word):
            program.run(backend=openai)["x"]


def test_completion_models_get_text(server: Fake, instruct: sgl.OpenAI) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "6 * 7 =" + sgl.gen("x", dtype=int) + " is it? " + sgl.select("c", ["no", "yes"])
        s += sgl.gen("q", dtype=str)

    state = program.run(backend=instruct)
    assert (state["x"], state["c"], state["q"]) == ("42", "yes", '"42"')
    assert state.get_meta_info("c") == {"scores": [-1.0, 0.0]}
    first, *_, last = server.bodies("/completions")
    assert first["prompt"] == "6 * 7 ="
    assert first["stop"] == [" ", "\n", ".", ","]
    assert last["prompt"].endswith('yes"')


def test_what_the_api_does_not_take(openai: sgl.OpenAI) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += sgl.user("Hi") + sgl.assistant(sgl.gen("x", regex="a+"))

    with pytest.raises(NotImplementedError, match="regex"):
        program.run(backend=openai)["x"]

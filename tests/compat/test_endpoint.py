"""Programs on a server with SGLang's routes."""

from collections.abc import Iterator
from typing import Any

import pytest

import ramet.compat.sglang as sgl
from ramet.compat.sglang.errors import BackendError
from ramet.compat.sglang.test.test_utils import select_sglang_backend
from ramet.compat.sglang.utils import http_request, wait_for_server
from tests.compat.fake_server import Fake, serving

META = {"prompt_tokens": 10, "completion_tokens": 2, "finish_reason": {"type": "length"}}
# The server's tokens are letters; a choice's letters are as likely as this says.
LIKELY = {"y": -0.5, "e": -0.5, "s": -0.5, "n": -2.0, "o": -0.1}


def generate(body: dict[str, Any]) -> Any:
    if body.get("stream"):
        return iter([{"text": text, "meta_info": META} for text in ("he", "hello", "hello")])
    if isinstance(body.get("text"), list) or "input_ids" in body:
        return [
            scored(each, body["logprob_start_len"]) for each in body.get("text") or letters(body)
        ]
    if body["sampling_params"]["max_new_tokens"] == 0:
        return {"text": "", "meta_info": {"prompt_tokens": len(body["text"])}}
    if body["sampling_params"].get("n") == 2:
        return [{"text": text, "meta_info": META} for text in ("one", "two")]
    return {"text": "hello", "meta_info": META}


def letters(body: dict[str, Any]) -> list[str]:
    return ["".join(map(chr, ids)) for ids in body["input_ids"]]


def scored(text: str, start: int) -> dict[str, Any]:
    entries = [
        [LIKELY.get(letter, -9.0) if at else None, ord(letter), letter]
        for at, letter in enumerate(text)
    ]
    return {"text": "", "meta_info": {"input_token_logprobs": entries[start + 1 if start else 0 :]}}


@pytest.fixture
def server() -> Iterator[Fake]:
    routes = {
        "/get_model_info": lambda body: {"model_path": "meta-llama/Llama-3-8B-Instruct"},
        "/generate": generate,
        "/flush_cache": lambda body: "done",
        "/server_info": lambda body: {"version": "1"},
        "/v1/models": lambda body: {"data": []},
    }
    with serving(routes) as fake:
        yield fake


@pytest.fixture
def endpoint(server: Fake) -> Iterator[sgl.RuntimeEndpoint]:
    endpoint = sgl.RuntimeEndpoint(server.url + "/", api_key="secret")
    yield endpoint
    endpoint.shutdown()


@sgl.function
def chat(s: Any, question: str) -> None:
    s += sgl.user(question)
    s += sgl.assistant(sgl.gen("answer", max_tokens=7, stop="\n", dtype=int))


def test_a_program_on_a_server(server: Fake, endpoint: sgl.RuntimeEndpoint) -> None:
    state = chat.run(question="Hi", backend=endpoint, return_logprob=True)
    assert state["answer"] == "hello"
    assert state.get_meta_info("answer") == META
    [body] = server.bodies("/generate")
    assert body["text"] == (
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert body["return_logprob"] is True
    sampling = body["sampling_params"]
    assert sampling["max_new_tokens"] == 7
    assert sampling["stop"] == ["\n", "<|eot_id|>", " ", "\n"]
    assert sampling["regex"] == r"[-+]?[0-9]+[ \n]*"
    assert sampling["skip_special_tokens"] is True
    assert "dtype" not in sampling
    assert server.headers[-1]["Authorization"] == "Bearer secret"


def test_samples_streams_and_batches(endpoint: sgl.RuntimeEndpoint) -> None:
    assert chat.run(question="Hi", backend=endpoint, n=2)["answer"] == ["one", "two"]
    state = chat.run(question="Hi", backend=endpoint, stream=True)
    assert "".join(state.text_iter("answer")) == "hello"
    states = chat.run_batch([(str(i),) for i in range(20)], backend=endpoint)
    assert [state["answer"] for state in states] == ["hello"] * 20


def test_select_scores_behind_the_text(server: Fake, endpoint: sgl.RuntimeEndpoint) -> None:
    @sgl.function
    def program(s: Any, method: Any) -> None:
        s += "Is it? "
        s += sgl.select("c", ["yes", "no"], choices_method=method)

    state = program.run(method=sgl.token_length_normalized, backend=endpoint)
    assert state["c"] == "yes"
    prefix, scores = server.bodies("/generate")
    assert prefix["sampling_params"] == {"max_new_tokens": 0, "temperature": 0}
    assert scores["text"] == ["Is it? yes", "Is it? no"]
    assert scores["logprob_start_len"] == len("Is it? ") - 2
    meta = state.get_meta_info("c")
    assert [entry[2] for entry in meta["input_token_logprobs"][1]] == ["n", "o"]
    assert meta["normalized_prompt_logprobs"] == [-0.5, -1.05]

    alone = program.run(method=sgl.unconditional_likelihood_normalized, backend=endpoint)
    assert alone["c"] == "yes"
    assert server.bodies("/generate")[-1]["input_ids"] == [[*map(ord, "yes")], [*map(ord, "no")]]
    with pytest.raises(AssertionError, match="temperature"):
        sgl.function(hot).run(backend=endpoint)["c"]


def hot(s: Any) -> None:
    s += "a" + sgl.select("c", ["x", "y"], temperature=1)


def test_hints_and_the_servers_house(server: Fake, endpoint: sgl.RuntimeEndpoint) -> None:
    endpoint.cache_prefix("prefix")
    assert server.bodies("/generate")[-1]["text"] == "prefix"
    assert sgl.flush_cache(endpoint) is True
    assert sgl.get_server_info(endpoint) == {"version": "1"}
    assert endpoint.model_info["model_path"].startswith("meta-llama")
    wait_for_server(server.url, timeout=5)
    assert http_request(server.url + "/server_info").json() == {"version": "1"}


def test_a_template_by_name(server: Fake) -> None:
    endpoint = sgl.RuntimeEndpoint(server.url, chat_template_name="chatml")
    assert endpoint.get_chat_template().name == "chatml"
    endpoint.shutdown()


def test_a_request_takes_one_image(server: Fake, endpoint: sgl.RuntimeEndpoint) -> None:
    @sgl.function
    def look(s: Any, pictures: list[bytes]) -> None:
        for picture in pictures:
            s += sgl.image(picture)
        s += sgl.gen("x")

    assert look.run(pictures=[b"png"], backend=endpoint)["x"] == "hello"
    assert server.bodies("/generate")[-1]["image_data"] == "cG5n"
    with pytest.raises(AssertionError, match="one image"):
        look.run(pictures=[b"a", b"b"], backend=endpoint)["x"]


def test_what_a_server_does_wrong_reaches_the_reader(
    server: Fake, endpoint: sgl.RuntimeEndpoint
) -> None:
    del server.routes["/generate"]
    with pytest.raises(BackendError, match=r"/generate answered 404: .*no such route"):
        chat.run(question="Hi", backend=endpoint)["answer"]
    with pytest.raises(BackendError, match="404"):
        list(chat.run(question="Hi", backend=endpoint, stream=True).text_iter("answer"))
    server.routes["/generate"] = lambda body: iter([{"error": {"message": "too long"}}])
    with pytest.raises(BackendError, match="too long"):
        chat.run(question="Hi", backend=endpoint, stream=True)["answer"]


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(BackendError, match="does not answer"):
        sgl.RuntimeEndpoint("http://127.0.0.1:9")
    with pytest.raises(TimeoutError, match="not up"):
        wait_for_server("http://127.0.0.1:9", timeout=0)


def test_benchmarks_find_the_server(server: Fake) -> None:
    from argparse import Namespace

    port = int(server.url.rsplit(":", 1)[1])
    args = Namespace(backend="srt-no-parallel", host="http://127.0.0.1", port=port)
    try:
        backend = select_sglang_backend(args)
        assert isinstance(backend, sgl.RuntimeEndpoint)
        assert sgl.global_config.enable_parallel_encoding is False
        backend.shutdown()
    finally:
        sgl.global_config.enable_parallel_encoding = True

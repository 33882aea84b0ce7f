"""SGLang's routes, asked by programs of its frontend through a `RuntimeEndpoint`."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

import ramet.compat.sglang as sgl
from ramet.compat.sglang.backend.local import LocalBackend
from ramet.compat.sglang.errors import BackendError
from ramet.runtime import Engine, EngineConfig
from ramet.runtime.tokenizer import Piece, Tokenizer
from tests.runtime.conftest import ToyModel, toy_words
from tests.runtime.server.live import Live


@pytest.fixture
def endpoint(served: Live) -> Iterator[sgl.RuntimeEndpoint]:
    endpoint = sgl.RuntimeEndpoint(served.url)
    yield endpoint
    endpoint.shutdown()


@pytest.fixture
def local(byte_tokenizer: Tokenizer) -> Iterator[LocalBackend]:
    """The same model in this process."""
    engine = Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=256))
    with engine:
        backend = LocalBackend(engine)
        yield backend
        backend.shutdown()


# In letters: half a character is not the same text on its way back.
@sgl.function
def everything(s: Any, topic: str) -> None:
    s += f"About {topic}: " + sgl.gen("first", regex="[a-z ]{8}", temperature=0)
    forks = s.fork(2)
    for number, fork in enumerate(forks):
        fork += f" Point {number}:" + sgl.gen("point", regex="[a-z ]{5}", temperature=0)
    s += forks[0]["point"] + forks[1]["point"]
    s += " Good? " + sgl.select("good", ["yes", "no", "maybe"])
    s += " Number " + sgl.gen("number", max_tokens=6, regex="[0-9]{3}", temperature=0)


def test_a_program_says_the_same_there_as_here(
    endpoint: sgl.RuntimeEndpoint, local: LocalBackend
) -> None:
    there = everything.run(topic="tea", backend=endpoint)
    here = everything.run(topic="tea", backend=local)
    assert there.text() == here.text()
    assert there["number"].isdecimal()
    assert there["good"] in ("yes", "no", "maybe")


def test_options_are_scored_as_the_model_does(endpoint: sgl.RuntimeEndpoint) -> None:
    """Behind the text, without its own last token; and alone."""

    @sgl.function
    def ask(s: Any, method: Any) -> None:
        s += "Is it so? "
        s += sgl.select("a", ["yes", "n"], choices_method=method)

    state = ask.run(method=sgl.token_length_normalized, backend=endpoint)
    meta = state.get_meta_info("a")
    lengths = [len(entries) for entries in meta["input_token_logprobs"]]
    assert lengths == [3, 1]
    spelled = ["".join(e[2] for e in entries) for entries in meta["input_token_logprobs"]]
    assert spelled == ["yes", "n"]
    alone = ask.run(method=sgl.unconditional_likelihood_normalized, backend=endpoint)
    assert alone["a"] in ("yes", "n")


def test_streams_samples_and_batches(served: Live, endpoint: sgl.RuntimeEndpoint) -> None:
    @sgl.function
    def go_on(s: Any, text: str) -> None:
        s += text + sgl.gen("more", max_tokens=9, temperature=0)

    expected = toy_words(served.engine.tokenizer, "Hello", 9)
    state = go_on.run(text="Hello", backend=endpoint, stream=True, return_logprob=True)
    assert "".join(state.text_iter("more")) == expected
    assert len(state.get_meta_info("more")["output_token_logprobs"]) == 9

    @sgl.function
    def samples(s: Any) -> None:
        s += "dice:" + sgl.gen("more", max_tokens=9, n=3, temperature=2.0)

    assert len(set(samples.run(backend=endpoint)["more"])) == 3
    states = go_on.run_batch([{"text": text} for text in ("a", "b", "a")], backend=endpoint)
    words = [toy_words(served.engine.tokenizer, text, 9) for text in ("a", "b", "a")]
    assert [state["more"] for state in states] == words


def test_a_list_in_a_list_out(served: Live) -> None:
    tokens = served.engine.tokenizer.encode([Piece("ab")], start=True)
    sampling = {"max_new_tokens": 4, "temperature": 0}
    expected = toy_words(served.engine.tokenizer, "ab", 4)

    def ask(**body: Any) -> Any:
        answer = served.http.post("/generate", json={"sampling_params": sampling, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert ask(text="ab")["text"] == expected
    assert ask(text=["ab", "c"])[0]["text"] == expected
    assert [each["text"] for each in ask(text=["ab"])] == [expected]
    assert ask(input_ids=tokens)["text"] == expected
    assert [each["text"] for each in ask(input_ids=[tokens])] == [expected]
    told = ask(text="ab", return_logprob=True, logprob_start_len=0, top_logprobs_num=2)
    meta = told["meta_info"]
    assert meta["input_token_logprobs"][0][:2] == [None, tokens[0]]
    assert len(meta["input_top_logprobs"][1]) == 2
    assert len(meta["output_top_logprobs"]) == 4
    assert meta["finish_reason"] == {"type": "length", "length": 4}
    nothing = ask(text="ab", sampling_params={"max_new_tokens": 0})
    assert (nothing["text"], nothing["meta_info"]["completion_tokens"]) == ("", 0)
    assert nothing["meta_info"]["prompt_tokens"] == 2


def test_several_streams_in_one(served: Live) -> None:
    body = {"text": ["ab", "c"], "sampling_params": {"max_new_tokens": 4}, "stream": True}
    texts: dict[int, str] = {}
    with served.http.stream("POST", "/generate", json=body) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    for line in lines:
        told = json.loads(line)
        assert told["text"].startswith(texts.get(told["index"], ""))
        texts[told["index"]] = told["text"]
    assert set(texts) == {0, 1}


def test_what_is_wrong_is_said(endpoint: sgl.RuntimeEndpoint, served: Live) -> None:
    @sgl.function
    def wrong(s: Any) -> None:
        s += "a" + sgl.gen("b", temperature=-1)

    state = wrong.run(backend=endpoint)
    with pytest.raises(BackendError, match="temperature must be"):
        _ = state["b"]
    answer = served.http.post("/generate", json={"text": "a", "sampling_params": {"max_tokens": 1}})
    assert answer.status_code == 400
    assert "unknown field 'max_tokens'" in answer.json()["error"]["message"]


def test_the_house(served: Live, endpoint: sgl.RuntimeEndpoint) -> None:
    assert endpoint.get_model_name() == served.engine.config.model
    assert endpoint.get_server_info()["page_size"] == 16
    assert served.http.get("/health_generate").status_code == 200
    endpoint.cache_prefix("something to keep for later, whole blocks of it")
    assert served.engine.stats().cache.cached > 0
    assert endpoint.flush_cache() is True
    assert served.http.get("/health").status_code == 200
    assert served.engine.stats().cache.cached == 0

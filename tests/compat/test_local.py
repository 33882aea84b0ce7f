"""Programs on an engine in this process, on the toy model."""

import asyncio
import gc
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ramet
import ramet.compat.sglang as sgl
from ramet.compat.sglang.backend.local import LocalBackend
from ramet.compat.sglang.lang.ir import REGEX_BOOL
from ramet.runtime import AsyncEngine, Engine
from ramet.runtime.errors import (
    CapacityError,
    ContextLengthError,
    EngineClosed,
    PromptError,
    StepError,
)
from ramet.runtime.tokenizer import Piece
from tests.compat.conftest import until
from tests.runtime.conftest import TOY_EOS, ToyEngine, ToyModel, all_back, toy_logits, toy_text

GREEDY = {"temperature": 0, "ignore_eos": True, "return_logprob": True}


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Iterator[Engine]:
    """An engine that is the default backend, and holds nothing in the end."""
    engine = toy_engine()
    sgl.set_default_backend(engine)
    yield engine
    sgl.set_default_backend(None)
    gc.collect()
    assert until(lambda: engine.stats().sequences == 0 or reaped(engine))
    assert all_back(engine.core)


def reaped(engine: Engine) -> bool:
    """What dropped states held goes with the next call."""
    LocalBackend(engine).flush_cache()
    return engine.stats().sequences == 0


def drawn(state: Any, name: str) -> list[int]:
    return [entry[1] for entry in state.get_meta_info(name)["output_token_logprobs"]]


def ids(engine: Engine, text: str) -> list[int]:
    return engine.tokenizer.encode([Piece(text)], start=True)


def model(engine: Engine) -> ToyModel:
    assert isinstance(engine.core.model, ToyModel)
    return engine.core.model


@sgl.function
def story(s: Any, prompt: str, tokens: int = 8) -> None:
    s += prompt + sgl.gen("x", max_tokens=tokens) + sgl.gen("y", max_tokens=tokens)


# -- generating


def test_generated_tokens_are_never_encoded_again(engine: Engine) -> None:
    state = story.run(prompt="tell", **GREEDY)
    assert drawn(state, "x") + drawn(state, "y") == toy_text(ids(engine, "tell"), 16)
    meta = state.get_meta_info("y")
    assert (meta["prompt_tokens"], meta["completion_tokens"]) == (4 + 8, 8)
    assert meta["cached_tokens"] >= 11
    assert meta["finish_reason"] == {"type": "length", "length": 8}
    assert state.text() == "tell" + state["x"] + state["y"]


def test_states_of_a_batch_are_in_one_batch(engine: Engine) -> None:
    prompts = [f"prompt {i}" for i in range(12)]
    states = story.run_batch([(prompt, 20) for prompt in prompts], **GREEDY)
    for prompt, state in zip(prompts, states, strict=True):
        assert drawn(state, "x") + drawn(state, "y") == toy_text(ids(engine, prompt), 40)
    assert model(engine).forwards < 12 * 40 / 3


def test_branches_share_what_is_computed(engine: Engine) -> None:
    shared = "a long beginning that all the branches have in common. " * 3

    @sgl.function
    def program(s: Any) -> None:
        s += shared
        forks = s.fork(4)
        forks += lambda i: f"branch {i}:" + sgl.gen("x", max_tokens=4)
        forks.join()

    state = program.run(**GREEDY)
    state.sync()
    prompt = len(ids(engine, shared))
    assert len(state["x"]) == 4
    assert model(engine).tokens_run < prompt + 4 * (len("branch 0:") + 4 + 8)


def test_branches_say_what_prompts_say(engine: Engine) -> None:
    @sgl.function
    def program(s: Any) -> list[list[int]]:
        s += "start" + sgl.gen("a", max_tokens=5)
        forks = s.fork(3)
        forks += lambda i: f" {i}" + sgl.gen("b", max_tokens=5)
        return [drawn(s, "a"), *(drawn(fork, "b") for fork in forks)]

    first, *branches = program.run(**GREEDY).ret_value
    before = ids(engine, "start") + first
    for i, branch in enumerate(branches):
        assert branch == toy_text([*before, *ids(engine, f" {i}")], 5)


def test_stop_strings_and_what_follows_them(engine: Engine) -> None:
    whole = story.run(prompt="tell", tokens=60, **GREEDY)
    text = whole["x"]
    at = next(i for i in range(2, 60) if text[i - 1 : i + 1].isascii() and text[i] not in text[:i])

    @sgl.function
    def program(s: Any) -> None:
        s += "tell" + sgl.gen("x", stop=text[at]) + "!" + sgl.gen("y", max_tokens=4)

    state = program.run(**GREEDY)
    assert state["x"] == text[:at]
    assert state.get_meta_info("x")["finish_reason"] == {"type": "stop", "matched": text[at]}
    kept = drawn(state, "x")[:-1]
    assert kept == drawn(whole, "x")[: len(kept)]
    assert drawn(state, "y") == toy_text([*ids(engine, "tell"), *kept, *ids(engine, "!")], 4)


def test_samples_differ_and_the_first_goes_on(engine: Engine) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "tell" + sgl.gen("x", n=3, max_tokens=6) + sgl.gen("y", max_tokens=3)

    state = program.run(temperature=1.0, ignore_eos=True, return_logprob=True)
    assert len(set(state["x"])) == 3
    first, *_ = state.get_meta_info("x")
    tokens = [entry[1] for entry in first["output_token_logprobs"]]
    again = program.run(temperature=1.0, ignore_eos=True, return_logprob=True)
    assert again["x"] != state["x"]  # another run draws anew
    assert state.get_meta_info("y")["prompt_tokens"] == 4 + len(tokens)


def test_streams_say_the_same(engine: Engine) -> None:
    whole = story.run(prompt="tell", **GREEDY)
    state = story.run(prompt="tell", stream=True, **GREEDY)
    assert "".join(state.text_iter()) == whole.text()
    assert drawn(state, "x") == drawn(whole, "x")
    assert state.get_meta_info("y")["finish_reason"] == {"type": "length", "length": 8}

    async def read() -> list[Any]:
        state = story.run(prompt="tell", stream=True, **GREEDY)
        return [pair async for pair in state.text_async_iter("x", return_meta_data=True)]

    pieces = asyncio.run(read())
    assert "".join(text for text, _ in pieces) == whole["x"]
    told = [entry for _, meta in pieces for entry in meta["output_token_logprobs"]]
    assert [entry[1] for entry in told] == drawn(whole, "x")[: len(told)]


def test_log_probabilities_of_the_prompt_and_the_likeliest(engine: Engine) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "tell"
        s += sgl.gen(
            "x",
            max_tokens=2,
            logprob_start_len=0,
            top_logprobs_num=3,
            return_text_in_logprobs=True,
        )

    meta = program.run(**GREEDY).get_meta_info("x")
    tokens = ids(engine, "tell")
    assert [entry[1] for entry in meta["input_token_logprobs"]] == tokens
    pairs = [(token, at) for at, token in enumerate(tokens)]
    expected = toy_logits(pairs[:1]).log_softmax(-1)[tokens[1]].item()
    assert meta["input_token_logprobs"][0][0] is None
    assert meta["input_token_logprobs"][1][0] == pytest.approx(expected, abs=1e-4)
    assert meta["input_token_logprobs"][1][2] == "e"
    best = toy_logits(pairs).log_softmax(-1).topk(3)
    assert [entry[1] for entry in meta["output_top_logprobs"][0]] == best.indices.tolist()


def test_no_tokens_tell_what_would_come_next(engine: Engine) -> None:
    @sgl.function
    def program(s: Any) -> Any:
        s += "tell"
        probe = s.fork(1)[0]
        probe += sgl.gen("p", max_tokens=0, top_logprobs_num=4, return_text_in_logprobs=True)
        top = probe.get_meta_info("p")["output_top_logprobs"][0]
        assert probe["p"] == ""
        forks = s.fork(2)
        for fork, (_, _, text) in zip(forks, top, strict=False):
            fork += text + sgl.gen("x", max_tokens=2)
        forks.join()
        return top

    state = program.run(**GREEDY)
    pairs = [(token, at) for at, token in enumerate(ids(engine, "tell"))]
    best = toy_logits(pairs).log_softmax(-1).topk(4)
    assert [entry[1] for entry in state.ret_value] == best.indices.tolist()
    assert len(state["x"]) == 2


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"regex": "[a-c]{3}-[0-9]{2}"}, "[a-c]{3}-[0-9]{2}"),
        ({"dtype": int, "max_tokens": 4}, "[-+]?[0-9]+"),
        ({"dtype": "bool"}, "True|False"),
        ({"dtype": float, "max_tokens": 6}, "[-+]?[0-9]*[.]?[0-9]*"),
        ({"dtype": str, "max_tokens": 3}, r'"[^"]{2}|"[^"]?"'),
        ({"regex": "(" + REGEX_BOOL + ", ){2}end"}, "(True, |False, ){2}end"),
        ({"json_schema": '{"enum": ["red", "blue"]}'}, '"red"|"blue"'),
    ],
)
def test_constrained_text(engine: Engine, settings: dict[str, Any], pattern: str) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "value:" + sgl.gen("x", **settings) + "." + sgl.gen("y", max_tokens=2)

    for stream in (False, True):
        state = program.run(temperature=0, stream=stream)
        state.stream_executor.sync()
        assert "".join(state.text_iter())
        assert re.fullmatch(pattern, state["x"])
        assert state.error() is None


def test_a_pattern_that_cannot_be_compiled_reaches_the_reader(engine: Engine) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "a" + sgl.gen("x", regex=r"(?<!a)b")

    with pytest.raises(ramet.RametError, match="regex"):
        program.run()["x"]


# -- choosing


def score(engine: Engine, prompt: str, choice: str) -> float:
    tokens = ids(engine, prompt + choice)
    total = 0.0
    for at in range(len(ids(engine, prompt)), len(tokens)):
        logits = toy_logits([(token, i) for i, token in enumerate(tokens[:at])])
        total += logits.log_softmax(-1)[tokens[at]].item()
    return total / len(ids(engine, choice))


@pytest.mark.parametrize("choices", [["yes", "no", "maybe"], ["a", "ab", "abc"], ["same", "some"]])
def test_select_takes_the_likeliest(engine: Engine, choices: list[str]) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "answer: " + sgl.select("c", choices) + "!" + sgl.gen("x", max_tokens=4)

    state = program.run(**GREEDY)
    scores = [score(engine, "answer: ", choice) for choice in choices]
    assert state["c"] == choices[scores.index(max(scores))]
    meta = state.get_meta_info("c")
    assert meta["normalized_prompt_logprobs"] == pytest.approx(scores, abs=1e-4)
    assert [len(tokens) for tokens in meta["input_token_logprobs"]] == [*map(len, choices)]
    assert [entry[2] for entry in meta["input_token_logprobs"][0]] == list(choices[0])
    assert drawn(state, "x") == toy_text(ids(engine, f"answer: {state['c']}!"), 4)


def test_the_other_ways_to_choose(engine: Engine) -> None:
    @sgl.function
    def program(s: Any, method: Any) -> None:
        s += "answer: " + sgl.gen("c", choices=["one", "two"], choices_method=method)

    greedy = program.run(method=sgl.greedy_token_selection)
    alone = program.run(method=sgl.unconditional_likelihood_normalized)
    assert "greedy_logprob_matrix" in greedy.get_meta_info("c")
    unconditional = alone.get_meta_info("c")["unconditional_token_logprobs"]
    first, *rest = unconditional[0]
    assert first[0] is None
    tokens = ids(engine, "one")
    expected = toy_logits([(tokens[0], 0)]).log_softmax(-1)[tokens[1]].item()
    assert rest[0][0] == pytest.approx(expected, abs=1e-4)


def test_a_select_is_never_drawn(engine: Engine) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "a" + sgl.select("c", ["x", "y"], temperature=1.0)

    with pytest.raises(AssertionError, match="temperature"):
        program.run()["c"]


# -- what goes wrong


def test_errors_are_themselves(engine: Engine) -> None:
    @sgl.function
    def program(s: Any, prompt: str) -> None:
        s += prompt + sgl.gen("x", max_tokens=4)

    with pytest.raises(PromptError, match="empty"):
        program.run(prompt="")["x"]
    with pytest.raises(ContextLengthError):
        program.run(prompt="a" * 5000)["x"]
    with pytest.raises(CapacityError):
        story.run(prompt="a" * 4000, tokens=90)["x"]
    with pytest.raises(ramet.ParameterError, match="top_p"):
        program.run(prompt="a", top_p=7)["x"]
    with pytest.raises(PromptError, match="reads text only"):
        program.run(prompt="a" + sgl.image(b"png"))["x"]
    assert program.run(prompt="a", **GREEDY)["x"]


def test_a_step_that_fails_ends_those_in_it(engine: Engine) -> None:
    model(engine).fail_at = {0}
    with pytest.raises(StepError, match="caught fire"):
        story.run(prompt="one")["x"]
    state = story.run(prompt="one", **GREEDY)
    assert drawn(state, "x") == toy_text(ids(engine, "one"), 8)


def test_a_closed_engine_leaves_nobody_waiting(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    backend = LocalBackend(engine)
    state = story.run(prompt="tell", tokens=2000, backend=backend, **GREEDY)
    assert until(lambda: engine.stats().steps > 3)
    engine.close()
    with pytest.raises(EngineClosed):
        state["x"]
    with pytest.raises(EngineClosed):
        story.run(prompt="more", backend=backend)["x"]


# -- the engine and others


def test_programs_of_both_kinds_share_an_engine(engine: Engine) -> None:
    @ramet.program
    def own(s: ramet.State) -> object:
        s += "own" + ramet.gen("x", max_tokens=20, ignore_eos=True, logprobs=0)
        return s["x"].tokens

    states = [story.run(prompt=f"p{i}", tokens=20, **GREEDY) for i in range(4)]
    assert engine.run(own).value == tuple(toy_text(ids(engine, "own"), 20))
    for i, state in enumerate(states):
        assert drawn(state, "x") == toy_text(ids(engine, f"p{i}"), 20)


def test_an_async_engine_is_shared_with_its_own_programs(
    toy_engine: ToyEngine,
) -> None:
    engine = toy_engine()

    @ramet.program
    def own(s: ramet.State) -> object:
        s += "own" + ramet.gen("x", max_tokens=20, ignore_eos=True, logprobs=0)
        return s["x"].tokens

    async def main() -> None:
        async with AsyncEngine.of(engine) as served:
            state = story.run(prompt="tell", tokens=20, backend=served, **GREEDY)
            done = await served.run(own)
            assert done.value == tuple(toy_text(ids(engine, "own"), 20))
            x = await asyncio.to_thread(drawn, state, "x")
            assert x == toy_text(ids(engine, "tell"), 20)
            lasting = story.run(prompt="long", tokens=2000, backend=served, **GREEDY)
        with pytest.raises(EngineClosed):
            lasting["x"]

    asyncio.run(main())


def test_dropped_branches_give_back_what_they_hold(engine: Engine) -> None:
    @sgl.function
    def program(s: Any) -> int:
        s += "a" * 40 + sgl.gen("x", max_tokens=2)
        for _ in range(5):
            fork = s.fork(1)[0]
            fork += "b" + sgl.gen("y", max_tokens=2)
            fork.sync()
            del fork
            gc.collect()
        s += sgl.gen("z", max_tokens=1)
        s.sync()
        return engine.stats().sequences

    assert program.run(**GREEDY).ret_value <= 3


def test_a_prefix_is_kept_and_forgotten(engine: Engine) -> None:
    backend = LocalBackend(engine)
    backend.cache_prefix("x" * 64)
    assert until(lambda: engine.stats().cache.cached == 4)
    run = story.run(prompt="x" * 64 + "y", backend=backend, **GREEDY)
    assert run.get_meta_info("x")["cached_tokens"] == 64
    run.sync()
    assert until(lambda: engine.stats().sequences == 0)
    assert sgl.flush_cache(backend)
    assert engine.stats().cache.cached == 0
    assert sgl.get_server_info(backend)["model_path"] == engine.config.model


def test_the_model_ends_a_text(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.runtime.conftest.toy_logits", ends_after(6))
    state = story.run(prompt="tell", temperature=0)
    assert state.get_meta_info("x")["finish_reason"] == {"type": "stop", "matched": TOY_EOS}
    assert len(state["x"]) <= 2


def ends_after(length: int) -> Callable[[list[tuple[int, int]]], Any]:
    def logits(pairs: list[tuple[int, int]]) -> Any:
        found = toy_logits(pairs)
        if len(pairs) >= length:
            found[TOY_EOS] = 1e4
        return found

    return logits


def test_many_programs_leave_no_thread(engine: Engine) -> None:
    before = threading.active_count()
    story.run_batch([(f"p{i}", 3) for i in range(40)], **GREEDY)
    assert until(lambda: threading.active_count() == before)

"""SGLang's offline engine and its Runtime, on the toy model."""

import asyncio
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

import ramet
import ramet.compat.sglang as sgl
from ramet.compat.sglang.runtime import Runtime
from ramet.runtime.errors import EngineClosed, ModelError
from ramet.runtime.tokenizer import Piece
from tests.compat.conftest import until
from tests.runtime.conftest import ToyEngine, all_back, toy_text

GREEDY = {"temperature": 0, "max_new_tokens": 6, "ignore_eos": True}


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Iterator[sgl.Engine]:
    engine = sgl.Engine.of(toy_engine())
    yield engine
    assert until(lambda: engine.engine.stats().sequences == 0)
    assert all_back(engine.engine.core)


def expected(engine: sgl.Engine, prompt: str, count: int) -> list[int]:
    ids = engine.engine.tokenizer.encode([Piece(prompt)], start=True)
    return toy_text(ids, count)


def test_one_prompt_and_several(engine: sgl.Engine) -> None:
    one = engine.generate("tell", GREEDY)
    assert one["output_ids"] == expected(engine, "tell", 6)
    assert one["text"] == engine.engine.tokenizer.decode(one["output_ids"])
    assert one["meta_info"]["completion_tokens"] == 6
    prompts = ["a", "b", "c"]
    many = engine.generate(prompts, [{**GREEDY, "max_new_tokens": n} for n in (1, 2, 3)])
    for index, (prompt, answer) in enumerate(zip(prompts, many, strict=True), 1):
        assert answer["output_ids"] == expected(engine, prompt, index)
    assert engine.generate(["a"], GREEDY)[0]["output_ids"] == expected(engine, "a", 6)


def test_tokens_instead_of_text(engine: sgl.Engine) -> None:
    assert engine.generate(input_ids=[1, 2], sampling_params=GREEDY)["output_ids"] == toy_text(
        [1, 2], 6
    )
    assert len(engine.generate(input_ids=[[1], [2]], sampling_params=GREEDY)) == 2
    with pytest.raises(ValueError, match="either"):
        engine.generate("a", input_ids=[1])


def test_samples_and_log_probabilities(engine: sgl.Engine) -> None:
    answers = engine.generate("tell", {"n": 3, "max_new_tokens": 4, "ignore_eos": True})
    assert len({answer["text"] for answer in answers}) == 3
    told = engine.generate(
        "tell", GREEDY, return_logprob=True, top_logprobs_num=2, logprob_start_len=1
    )["meta_info"]
    assert [entry[1] for entry in told["output_token_logprobs"]] == expected(engine, "tell", 6)
    assert len(told["output_top_logprobs"][0]) == 2
    assert len(told["input_token_logprobs"]) == 3


def test_no_tokens(engine: sgl.Engine) -> None:
    answer = engine.generate("tell", {"max_new_tokens": 0}, return_logprob=True, top_logprobs_num=2)
    assert (answer["text"], answer["output_ids"]) == ("", [])
    [top] = answer["meta_info"]["output_top_logprobs"]
    assert top[0][1] == expected(engine, "tell", 1)[0]


def test_constraints_stops_and_seeds(engine: sgl.Engine) -> None:
    assert engine.generate("a", {**GREEDY, "regex": "[x-z]{3}"})["text"].strip("xyz") == ""
    whole = engine.generate("tell", {**GREEDY, "max_new_tokens": 20})["output_ids"]
    stopped = engine.generate("tell", {**GREEDY, "stop_token_ids": [whole[2]]})
    assert stopped["output_ids"] == whole[:3]
    assert stopped["meta_info"]["finish_reason"]["type"] == "stop"
    drawn = {"max_new_tokens": 8, "ignore_eos": True}
    seeded = {**drawn, "sampling_seed": 7}
    assert len({engine.generate("tell", drawn)["text"] for _ in range(2)}) == 2
    assert len({engine.generate("tell", seeded)["text"] for _ in range(2)}) == 1


def test_streams(engine: sgl.Engine) -> None:
    whole = engine.generate("tell", GREEDY)
    answers = list(engine.generate("tell", GREEDY, stream=True))
    assert answers[-1]["text"] == whole["text"]
    assert answers[-1]["output_ids"] == whole["output_ids"]
    assert all(whole["text"].startswith(answer["text"]) for answer in answers)
    several = list(engine.generate(["a", "b"], GREEDY, stream=True))
    assert {answer["index"] for answer in several} == {0, 1}
    unfinished = engine.generate("tell", {**GREEDY, "max_new_tokens": 3000}, stream=True)
    next(unfinished)
    unfinished.close()


def test_coroutines(engine: sgl.Engine) -> None:
    async def stream() -> list[Any]:
        return [each async for each in await engine.async_generate("tell", GREEDY, stream=True)]

    async def main() -> None:
        answers = await asyncio.gather(*(engine.async_generate(f"p{i}", GREEDY) for i in range(20)))
        for i, answer in enumerate(answers):
            assert answer["output_ids"] == expected(engine, f"p{i}", 6)
        assert (await stream())[-1]["output_ids"] == expected(engine, "tell", 6)

    asyncio.run(main())


def test_a_coroutine_that_is_cancelled_takes_its_prompt_with_it(engine: sgl.Engine) -> None:
    async def main() -> None:
        task = asyncio.create_task(
            engine.async_generate("tell", {**GREEDY, "max_new_tokens": 3000})
        )
        assert await asyncio.to_thread(until, lambda: engine.engine.stats().steps > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert until(lambda: engine.engine.stats().sequences == 0)
        assert engine.engine.stats().steps < 2000

    asyncio.run(main())


def test_programs_run_on_it(engine: sgl.Engine) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "tell" + sgl.gen("x", max_tokens=6)

    whole = engine.generate("tell", GREEDY)["text"]
    assert program.run(backend=engine, temperature=0, ignore_eos=True)["x"] == whole


def test_wrong_settings(engine: sgl.Engine) -> None:
    with pytest.raises(ramet.ParameterError, match="did you mean 'temperature'"):
        engine.generate("a", {"temprature": 0})
    with pytest.raises(ramet.ParameterError, match="one way"):
        engine.generate("a", {"regex": "a", "json_schema": "{}"})
    with pytest.raises(ValueError, match="2 sampling_params for 1"):
        engine.generate(["a"], [{}, {}])
    with pytest.raises(NotImplementedError, match="lora_path"):
        engine.generate("a", lora_path="x")
    with pytest.raises(NotImplementedError, match="embeddings"):
        engine.encode("a")
    with pytest.raises(TypeError, match="did you mean 'model_path'"):
        sgl.Engine(model_pat="x")
    with pytest.raises(NotImplementedError, match="tp_size=2"):
        sgl.Engine(model_path="x", tp_size=2)
    with pytest.raises(ModelError):
        sgl.Engine(model_path="no-such-model")


def test_it_can_be_closed(toy_engine: ToyEngine) -> None:
    with sgl.Engine.of(toy_engine()) as engine:
        assert engine.flush_cache()
        assert engine.get_model_info()["is_generation"]
        assert engine.get_server_info()["tp_size"] == 1
    with pytest.raises(EngineClosed):
        engine.generate("a", GREEDY)
    engine.shutdown()


def test_settings_are_those_of_the_engine() -> None:
    args = sgl.ServerArgs(
        model_path="m", max_total_tokens=100, context_length=50, disable_radix_cache=True
    )
    assert args.engine_settings() == {
        "model": "m",
        "dtype": "float32",
        "device": "cpu",
        "sharing": False,
        "block_size": 16,
        "num_blocks": 7,
        "max_context": 50,
    }
    assert sgl.ServerArgs(**asdict(args)) == args


def test_settings_from_a_command_line() -> None:
    parser = ArgumentParser()
    sgl.ServerArgs.add_cli_args(parser)
    args = parser.parse_args("--model-path m --tp 1 --random-seed 3 --disable-radix-cache".split())
    found = sgl.ServerArgs.from_cli_args(args)
    assert (found.model_path, found.random_seed, found.disable_radix_cache) == ("m", 3, True)


@pytest.fixture
def runtime(engine: sgl.Engine, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("ramet.compat.sglang.runtime.Engine", lambda **s: made.append(s) or engine)
    runtime = sgl.Runtime("a/model", random_seed=1)
    assert made == [{"model_path": "a/model", "random_seed": 1}]
    return runtime


def test_a_runtime(runtime: Runtime, engine: sgl.Engine) -> None:
    answer = json.loads(runtime.generate("tell", GREEDY))
    assert answer["output_ids"] == expected(engine, "tell", 6)

    async def read() -> str:
        return "".join([piece async for piece in runtime.async_generate("tell", GREEDY)])

    assert asyncio.run(read()) == answer["text"]
    assert asyncio.run(runtime.get_server_info())["model_path"] == engine.server_args.model_path
    assert runtime.get_tokenizer() is engine.engine.tokenizer.hf
    runtime.cache_prefix("prefix")
    assert runtime.flush_cache()
    with pytest.raises(NotImplementedError, match="no address"):
        runtime.url  # noqa: B018
    runtime.shutdown()

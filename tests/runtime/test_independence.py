"""What one program does costs no other program anything: exits, drops, bad items, bad graphs."""

import asyncio
import gc
from pathlib import Path

import pytest
import torch
from greenlet import GreenletExit
from transformers import LlamaConfig, LlamaForCausalLM

import ramet
from ramet.graph import Gen, Graph, Ref, Root, Text
from ramet.params import SamplingParams
from ramet.runtime import AsyncEngine, Engine, EngineConfig, Finished
from ramet.runtime.errors import GenerationError, ModelError
from ramet.runtime.models import load_model
from ramet.runtime.sequence import Task
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyCore, ToyModel


@ramet.program
def story(s: ramet.State, prompt: str, tokens: int = 8, temperature: float = 0.0) -> None:
    s += prompt
    s += ramet.gen("text", max_tokens=tokens, ignore_eos=True, temperature=temperature)


@ramet.program
def exits(s: ramet.State, error: type[BaseException]) -> None:
    s += "going"
    s += ramet.gen("x", max_tokens=2, ignore_eos=True)
    len(s["x"])
    raise error


@pytest.fixture
def engine(byte_tokenizer: Tokenizer) -> Engine:
    return Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=64))


def nothing_is_left(engine: Engine) -> bool:
    engine.audit()
    return engine.stats().sequences == 0 and engine.core.pool.available == 64


@pytest.mark.parametrize("error", [SystemExit, GreenletExit, BaseException])
def test_a_body_that_exits_fails_alone(engine: Engine, error: type[BaseException]) -> None:
    with pytest.raises(GenerationError, match="the body of program 'exits'"):
        engine.run(exits, error)
    assert isinstance(engine.run(story, "still here"), Finished)
    assert nothing_is_left(engine)


def test_on_its_thread_the_engine_survives_an_exit(engine: Engine) -> None:
    async def main() -> None:
        async with AsyncEngine.of(engine) as served:
            with pytest.raises(GenerationError, match="SystemExit"):
                await served.run(exits, SystemExit)
            assert isinstance(await served.run(story, "still here"), Finished)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_dropped_stream_is_cancelled(engine: Engine) -> None:
    stream = engine.stream(story, "dropped", tokens=500)
    next(stream)
    del stream
    gc.collect()
    assert nothing_is_left(engine)


def test_a_bad_item_of_a_batch_keeps_its_error_to_itself(engine: Engine) -> None:
    items = [{"prompt": "a"}, 7, {"prompt": "b"}]
    first, second, third = engine.run_batch(story, items, concurrency=2)  # type: ignore[arg-type]
    assert isinstance(first, Finished)
    assert isinstance(second, TypeError)
    assert isinstance(third, Finished)
    assert nothing_is_left(engine)


def test_a_graph_is_checked_before_it_runs(engine: Engine) -> None:
    nodes = (Root(), Text(0, ("a",)), Gen(1, "x", SamplingParams(max_tokens=2)))
    for graph in (Graph("far", nodes, Ref(7)), Graph("rootless", nodes[1:]), Graph("empty", ())):
        with pytest.raises(ramet.GraphError):
            engine.run(graph)
    assert engine.stats().steps == 0


def test_a_function_without_its_decorator(engine: Engine) -> None:
    def plain(s: ramet.State) -> None: ...

    with pytest.raises(ramet.ArgumentError, match=r"missing its @ramet.program\?"):
        engine.run(plain)  # type: ignore[arg-type]


def test_the_seed_of_a_program(engine: Engine) -> None:
    def text(seed: int) -> object:
        return engine.run(story.seeded(seed), "draw", temperature=2.0)["text"]

    assert text(1) == text(1)
    assert text(1) != text(2)
    first, second = engine.run_batch(
        story.seeded(1).bind(temperature=2.0), [{"prompt": "draw"}, {"prompt": "draw"}]
    )
    assert isinstance(first, Finished)
    assert isinstance(second, Finished)
    assert (first["text"], second["text"]) == (text(1), text(2))


def test_infos_belong_to_their_state(engine: Engine) -> None:
    @ramet.program
    def twice(s: ramet.State) -> None:
        s += "a" + ramet.gen("x", max_tokens=2, ignore_eos=True)
        (branch,) = s.fork(1)
        branch += "b" + ramet.gen("x", max_tokens=5, ignore_eos=True)

    done = engine.run(twice)
    inner = done.root.branches[0]
    assert (done.info("x").text, inner.infos["x"].text) == (done["x"], inner.variables["x"])
    assert done["x"] != inner.variables["x"]


def test_nobody_waits_for_what_another_is_still_to_generate(toy_core: ToyCore) -> None:
    """B's prompt is A's with the text that A is about to generate."""
    core = toy_core()
    prompt = list(range(1, 11))
    params = SamplingParams(max_tokens=60, ignore_eos=True)

    def begin(tokens: list[int], params: SamplingParams) -> Task:
        return core.generate(core.open(tokens), params, key=0, on_done=lambda task: None)

    alone = begin(prompt, params)
    while core.busy:
        core.step()
    written = alone.sequence.tokens
    core.close(alone.sequence)
    core.pool.clear()

    running = begin(prompt, params)
    core.step()
    waiting = begin(written, SamplingParams(max_tokens=1, ignore_eos=True))
    for _ in range(3):
        core.step()
    assert waiting.done
    assert not running.done


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_a_rope_that_follows_the_longest_of_a_batch_is_refused(tmp_path: Path, kind: str) -> None:
    rope: dict[str, object] = {"rope_type": kind, "rope_theta": 10000.0, "factor": 2.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
        rope |= {"original_max_position_embeddings": 32}
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        rope_parameters=rope,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"rope type '{kind}' changes with the longest"):
        load_model(str(tmp_path), dtype="float32", cache=tmp_path)

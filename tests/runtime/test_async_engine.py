"""The engine on its own thread: programs from coroutines, streams, cancelling, closing."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from torch import Tensor

import ramet
from ramet.runtime import AsyncEngine, Engine, EngineConfig, Finished, TextDelta
from ramet.runtime.errors import EngineClosed, EngineError, StepError
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyModel, toy_text

Body = Callable[[AsyncEngine, ToyModel], Awaitable[None]]


@ramet.program
def story(s: ramet.State, prompt: str, tokens: int = 8) -> object:
    s += prompt
    s += ramet.gen("text", max_tokens=tokens, ignore_eos=True, logprobs=0)
    return s["text"].tokens


@pytest.fixture
def serve(byte_tokenizer: Tokenizer) -> Callable[[Body], None]:
    """Run a coroutine against an engine on the toy model; afterwards nothing may be left."""

    def run(body: Body) -> None:
        model = ToyModel()
        engine = Engine.of(model, byte_tokenizer, EngineConfig(num_blocks=64))

        async def main() -> None:
            async with AsyncEngine.of(engine) as served:
                await body(served, model)

        asyncio.run(main())
        engine.audit()
        assert engine.stats().sequences == 0
        assert engine.core.pool.available == 64

    return run


def expected(tokenizer: Tokenizer, prompt: str, tokens: int) -> tuple[int, ...]:
    from ramet.runtime.tokenizer import Piece

    return tuple(toy_text(tokenizer.encode([Piece(prompt)], start=True), tokens))


def test_programs_from_coroutines_run_together(
    serve: Callable[[Body], None], byte_tokenizer: Tokenizer
) -> None:
    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        prompts = ["one", "two", "three"]
        done = await asyncio.gather(*(engine.run(story, p, tokens=20) for p in prompts))
        assert [r.value for r in done] == [expected(byte_tokenizer, p, 20) for p in prompts]
        assert model.forwards < 3 * 20

    serve(body)


def test_a_batch_keeps_order_and_each_items_error(
    serve: Callable[[Body], None], byte_tokenizer: Tokenizer
) -> None:
    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        items = [{"prompt": "a"}, {"promt": "b"}, {"prompt": "c"}]
        first, second, third = await engine.run_batch(story, items, concurrency=2)
        assert isinstance(first, Finished)
        assert isinstance(third, Finished)
        assert first.value == expected(byte_tokenizer, "a", 8)
        assert third.value == expected(byte_tokenizer, "c", 8)
        assert isinstance(second, ramet.ArgumentError)

    serve(body)


def test_a_stream_ends_with_the_result(serve: Callable[[Body], None]) -> None:
    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        items = [item async for item in engine.stream(story, "tell")]
        assert isinstance(items[-1], Finished)
        streamed = "".join(item.text for item in items if isinstance(item, TextDelta))
        assert streamed == items[-1]["text"]

    serve(body)


def test_cancelling_gives_everything_back_and_harms_nobody(
    serve: Callable[[Body], None], byte_tokenizer: Tokenizer
) -> None:
    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        lost = asyncio.create_task(engine.run(story, "cancelled", tokens=500))
        kept = asyncio.create_task(engine.run(story, "kept", tokens=40))
        await asyncio.sleep(0.02)
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        assert (await kept).value == expected(byte_tokenizer, "kept", 40)

    serve(body)


def test_giving_up_ends_whoever_waits_and_what_runs(serve: Callable[[Body], None]) -> None:
    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        waiting = asyncio.create_task(engine.run(story, "given up", tokens=800))
        other = engine.stream(story, "to see that steps are made")
        await anext(other)
        engine.give_up(EngineError("enough"))
        with pytest.raises(EngineError, match="enough"):
            await waiting
        await other.aclose()
        assert (await engine.stats()).sequences == 0
        assert model.forwards < 700

    serve(body)


def test_leaving_a_stream_early_cancels_its_program(serve: Callable[[Body], None]) -> None:
    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        stream = engine.stream(story, "left", tokens=500)
        await anext(aiter(stream))
        await stream.aclose()  # type: ignore[attr-defined]
        await engine.run(story, "after")
        assert model.forwards < 400

    serve(body)


def test_a_failing_step_reaches_the_one_who_waits(
    serve: Callable[[Body], None], byte_tokenizer: Tokenizer
) -> None:
    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        model.fail_at = {2}
        with pytest.raises(StepError, match="caught fire"):
            await engine.run(story, "unlucky")
        assert (await engine.run(story, "unlucky")).value == expected(byte_tokenizer, "unlucky", 8)

    serve(body)


def test_an_engine_that_breaks_tells_everybody_and_goes_on(
    serve: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        core = engine._engine.core
        with monkeypatch.context() as patch:
            patch.setattr(core.scheduler, "schedule", lambda: 1 / 0)
            with pytest.raises(ramet.RametError, match="the engine failed: ZeroDivisionError"):
                await engine.run(story, "x")
        assert isinstance(await engine.run(story, "y"), Finished)

    serve(body)


def test_closing_ends_what_runs(serve: Callable[[Body], None]) -> None:
    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        running = asyncio.create_task(engine.run(story, "long", tokens=500))
        await asyncio.sleep(0.02)
        await engine.close()
        with pytest.raises(EngineClosed):
            await running
        with pytest.raises(EngineClosed):
            await engine.run(story, "late")

    serve(body)


def test_inside_it_is_the_default_and_has_all_that_an_engine_has(
    serve: Callable[[Body], None],
) -> None:
    program = ramet.loads('program p(n: int):\n    "x{n}"\n    gen a(max_tokens=3)\n    return a')

    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        one = await program.run(n=1)
        told: list[int] = []
        both = await program.run_batch(
            [{"n": 1}, {"m": 2}], concurrency=1, on_outcome=lambda at, outcome: told.append(at)
        )
        (plain,) = await engine.generate("x1", max_tokens=3)
        assert isinstance(plain, Finished)
        assert one.value == both[0].value == plain["text"]
        assert isinstance(both[1], ramet.ArgumentError)
        assert sorted(told) == [0, 1]
        await engine.audit()
        stats = await engine.stats()
        assert stats.steps > 0
        assert stats.sequences == 0
        await engine.close()
        with pytest.raises(EngineClosed):
            await engine.stats()

    serve(body)
    with pytest.raises(ramet.NoRunner):
        program.run(n=1)


def test_events_are_told_in_the_loop_and_what_that_raises_ends_the_run(
    serve: Callable[[Body], None],
) -> None:
    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        here, told = threading.get_ident(), list[TextDelta]()

        def tell(event: object) -> None:
            assert threading.get_ident() == here
            if isinstance(event, TextDelta):
                told.append(event)

        done = await engine.follow(story, {"prompt": "tell"}, tell)
        assert "".join(each.text for each in told) == done["text"]
        before = model.forwards

        def fail(event: object) -> None:
            raise ValueError("enough of it")

        with pytest.raises(ValueError, match="enough"):
            await engine.follow(story, {"prompt": "fail", "tokens": 900}, fail)
        await engine.run(story, "after")
        assert model.forwards < before + 500

    serve(body)


def test_who_takes_the_place_of_a_run_that_ended_begins_with_the_next_step(
    serve: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramet.runtime.async_engine._ROOM", 10.0)  # times a step of 20 ms

    async def body(engine: AsyncEngine, model: ToyModel) -> None:
        forward = model.forward

        def slow(*args: Any) -> Tensor:
            time.sleep(0.02)
            return forward(*args)

        monkeypatch.setattr(model, "forward", slow)
        beside = asyncio.create_task(engine.run(story, "beside", tokens=900))
        ends: list[int] = []
        for prompt in ("one", "two", "three", "four"):
            await engine.run(story, prompt, tokens=4)
            ends.append(model.forwards)
        assert [after - before for before, after in pairwise(ends)] == [4, 4, 4]
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)

    serve(body)

"""Waiting work is expected in the cache: what that saves, and that it changes nothing else."""

import random
from collections.abc import Callable
from typing import Any

import pytest

import ramet
from ramet.cache import Expectation
from ramet.params import SamplingParams
from ramet.program import Program
from ramet.runtime import Engine, Finished
from ramet.runtime.chat import ChatFormat
from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.lookahead import REACH, Lookahead, opening
from ramet.runtime.sequence import Generation, Task
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import (
    ToyCore,
    ToyEngine,
    ToyModel,
    all_back,
    drive,
    toy_model,
    toy_text,
)
from tests.runtime.tokenizers import byte_level, sentencepiece


def pure(body: Callable[..., Any]) -> Program[..., Any]:
    """A program that says of itself that running its body has no other effect."""
    return Program(body, pure=True)


def gen(name: str, count: int = 3) -> Any:
    return ramet.gen(name, max_tokens=count, ignore_eos=True)


@pure
def asked(s: ramet.State, document: str, question: str) -> object:
    s += document
    s += question + " "
    s += gen("answer")
    return s["answer"]


# -- the opening is what the interpreter will encode


@pure
def chat(s: ramet.State, topic: str) -> None:
    s += ramet.system("Be brief." + topic)
    s += ramet.user("Tell me about " + topic)
    with s.assistant():
        s += "Well, <|im_start|>"
        s += gen("answer")
        s += " Bye"


@pure
def looks(s: ramet.State, topic: str) -> None:
    s += topic
    s += gen("x")
    if s["x"] == "y":
        s += "never known"


def on(tokenizer: Tokenizer) -> Engine:
    return Engine.of(ToyModel(), tokenizer, EngineConfig(num_blocks=256))


@pytest.mark.parametrize("program", [chat, looks])
@pytest.mark.parametrize(
    "tokenizer",
    [byte_level(), byte_level(None), sentencepiece("first")],
    ids=["template", "plain", "sentencepiece"],
)
def test_the_opening_is_what_the_first_generation_starts_from(
    program: Program[..., Any], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = on(tokenizer)
    started: list[list[int]] = []
    generate = engine.core.generate

    def watched(sequence: Any, *args: Any, **kwargs: Any) -> Generation:
        started.append(list(sequence.tokens))
        return generate(sequence, *args, **kwargs)

    known = opening(engine.core, ChatFormat(tokenizer), program, {"topic": "tea"})
    monkeypatch.setattr(engine.core, "generate", watched)
    monkeypatch.setattr(ToyModel, "forward", _refuse)
    engine.run_batch(program, [{"topic": "tea"}])

    assert started == [known]
    assert len(known) > 1


def _refuse(*args: object) -> object:
    raise RuntimeError("no forward is needed here")


def text_of(engine: Engine, program: Any, **arguments: Any) -> str:
    tokens = opening(engine.core, ChatFormat(engine.tokenizer), program, arguments)
    return engine.tokenizer.decode(tokens, start=True)


def test_an_opening_ends_where_more_than_text_comes(toy_engine: ToyEngine) -> None:
    @pure
    def forks(s: ramet.State) -> None:
        s += "one "
        left, _ = s.fork(2)
        left += "two"

    @pure
    def selects(s: ramet.State) -> None:
        s += "one "
        s += ramet.select("x", ["a", "b"])

    engine = toy_engine()
    assert text_of(engine, forks) == "one "
    assert text_of(engine, selects) == "one "
    assert text_of(engine, asked.trace(document="one", question="")) == "one "


@pytest.mark.parametrize("arguments", [{}, {"topic": 5}, {"other": "x"}, {"topic": "\ud800"}])
def test_an_item_that_is_wrong_has_no_opening(
    toy_engine: ToyEngine, arguments: dict[str, Any]
) -> None:
    assert text_of(toy_engine(), looks, **arguments) == ""


def test_a_body_that_raises_has_the_opening_it_came_to(toy_engine: ToyEngine) -> None:
    @pure
    def wrong(s: ramet.State) -> None:
        s += "one"
        raise ZeroDivisionError

    assert text_of(toy_engine(), wrong) == "one"


# -- a batch


def crowded_items(documents: int, rounds: int) -> list[dict[str, str]]:
    """Questions about each document in turn: the least recently used is the one needed next."""
    rng = random.Random(0)
    texts = ["".join(rng.choices("abcdefgh ", k=64)) for _ in range(documents)]
    return [
        {"document": text, "question": f"{turn}{at}?"}
        for turn in range(rounds)
        for at, text in enumerate(texts)
    ]


def run(engine: Engine, program: Any, items: list[dict[str, str]]) -> tuple[list[Any], int]:
    results = engine.run_batch(program, items, concurrency=2)
    engine.audit()
    assert all_back(engine.core)
    assert engine.core.pool.plan.count == 0, "nothing is expected after a batch"
    values = [each.value if isinstance(each, Finished) else each for each in results]
    return values, toy_model(engine.core).tokens_run


def test_a_batch_over_more_documents_than_fit_computes_less(toy_engine: ToyEngine) -> None:
    settings = {"num_blocks": 40, "block_size": 8, "max_sequences": 2, "step_tokens": 64}
    items = crowded_items(documents=6, rounds=6)
    guessed = Program(asked._body, "asked")

    lru, lru_tokens = run(toy_engine(**settings), guessed, items)
    plan, plan_tokens = run(toy_engine(**settings), asked, items)
    roomy, least = run(toy_engine(**settings | {"num_blocks": 1_000}), guessed, items)

    assert lru == plan == roomy
    assert lru_tokens - least > 24 * 64, "nearly every document again, nearly every time"
    assert plan_tokens - least < (lru_tokens - least) / 2


def test_a_body_that_may_do_anything_is_not_run_ahead(toy_engine: ToyEngine) -> None:
    begun: list[str] = []

    @ramet.program
    def noted(s: ramet.State, document: str, question: str) -> None:
        begun.append(question)
        s += document + question
        s += gen("answer")

    items = crowded_items(documents=3, rounds=3)
    run(toy_engine(num_blocks=40, block_size=8, max_sequences=2, step_tokens=64), noted, items)
    assert begun == [item["question"] for item in items]


def test_only_so_many_are_looked_at_and_in_their_order(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = toy_engine(num_blocks=16)
    core = engine.core
    seen: list[int] = []
    expect = core.expect

    def watched(tokens: Any, when: int, scope: bytes = b"") -> Any:
        seen.append(when)
        return expect(tokens, when, scope)

    monkeypatch.setattr(core, "expect", watched)
    ahead = Lookahead(core, ChatFormat(engine.tokenizer), asked, 2)
    waiting = [*enumerate(crowded_items(documents=5, rounds=4))]

    ahead.look(waiting)
    assert seen == list(range(2 * REACH))
    ahead.look(waiting)
    assert len(seen) == 2 * REACH
    ahead.started(0)
    ahead.started(0)
    ahead.look(waiting[1:])
    assert seen == list(range(2 * REACH + 1))
    assert core.pool.plan.count > 0
    ahead.close()
    assert core.pool.plan.count == 0


def test_an_item_that_starts_is_expected_no_more(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = toy_engine(num_blocks=40, block_size=8, max_sequences=2, step_tokens=64)
    expect, start_run = engine.core.expect, engine.start
    expected: dict[int, Expectation] = {}

    def watched(tokens: Any, when: int, scope: bytes = b"") -> Expectation:
        expected[when] = expect(tokens, when, scope)
        return expected[when]

    def starts(program: Any, arguments: Any, *, item: int = 0, **others: Any) -> Any:
        assert item not in expected or not expected[item].path
        assert all(each.path for when, each in expected.items() if when > item)
        return start_run(program, arguments, item=item, **others)

    monkeypatch.setattr(engine.core, "expect", watched)
    monkeypatch.setattr(engine, "start", starts)
    run(engine, asked, crowded_items(documents=6, rounds=6))
    assert len(expected) > 20


def test_while_there_is_room_nobody_looks_ahead(toy_engine: ToyEngine) -> None:
    engine = toy_engine(num_blocks=4_096, block_size=8)
    ahead = Lookahead(engine.core, ChatFormat(engine.tokenizer), asked, 2)
    ahead.look([*enumerate(crowded_items(documents=5, rounds=4))])
    assert engine.core.pool.plan.count == 0


def test_a_batch_that_breaks_off_expects_nothing_more(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = toy_engine(num_blocks=40, block_size=8, max_sequences=2, step_tokens=64)
    step = engine.core.step

    def interrupted() -> None:
        if engine.core.pool.plan.count:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(engine.core, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.run_batch(asked, crowded_items(documents=6, rounds=6), concurrency=2)
    assert all_back(engine.core)
    assert engine.core.pool.plan.count == 0


def test_plain_prompts_are_known_ahead(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = toy_engine(num_blocks=16, max_sequences=1)
    prompts = [f"prompt number {at}, in full" for at in range(80)]
    seen: list[list[int]] = []
    monkeypatch.setattr(engine.core, "expect", lambda tokens, when: _note(seen, tokens))

    engine.generate(prompts, max_tokens=1, ignore_eos=True)

    known = [engine.tokenizer.decode(tokens, start=True) for tokens in seen]
    assert known == prompts[64:]


class _Inert:
    def drop(self) -> None:
        """Nothing was expected."""


def _note(seen: list[list[int]], tokens: list[int]) -> _Inert:
    seen.append(tokens)
    return _Inert()


# -- tasks that wait in the engine


def tokens(seed: int, count: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(256) for _ in range(count)]


def ignored(task: Task) -> None:
    """Nobody waits for it."""


def start(core: EngineCore, prompt: list[int], count: int) -> Generation:
    params = SamplingParams(max_tokens=count, ignore_eos=True)
    return core.generate(core.open(prompt), params, key=0, on_done=ignored)


def leave(core: EngineCore, prompt: list[int]) -> None:
    """Have the prompt computed, and cached."""
    task = start(core, prompt, 1)
    drive(core)
    core.close(task.sequence)


def test_what_a_waiting_task_will_find_is_evicted_late(toy_core: ToyCore) -> None:
    """The first prompt is the least recently used, and wanted; the second is wanted by nobody."""
    core = toy_core(num_blocks=12, block_size=4, max_sequences=1)
    wanted, other = tokens(0, 16), tokens(1, 16)
    leave(core, wanted)
    leave(core, other)
    running = start(core, tokens(2, 8), 16)
    waiting = start(core, wanted, 2)

    drive(core)

    assert waiting.usage.prompt_reused == 15
    assert core.stats().cache.evicted > 0
    assert running.drawn == toy_text(tokens(2, 8), 16)
    assert waiting.drawn == toy_text(wanted, 2)


def test_what_waits_is_expected_until_it_is_let_in_or_ends(toy_core: ToyCore) -> None:
    core = toy_core(num_blocks=12, block_size=4, max_sequences=1)
    first = start(core, tokens(2, 8), 3)
    tasks = [start(core, tokens(seed, 8), 2) for seed in (3, 4)]
    for _ in range(2):  # the first step looks as far as it may: at the first two
        core.step()
    assert list(core.scheduler.expected) == tasks
    assert core.pool.plan.count == 4
    core.abort(tasks[0])
    assert list(core.scheduler.expected) == tasks[1:]
    drive(core)
    assert (core.scheduler.expected, core.pool.plan.count) == ({}, 0)
    assert first.drawn == toy_text(tokens(2, 8), 3)


def test_items_to_come_are_behind_all_that_arrived(toy_core: ToyCore) -> None:
    core = toy_core(num_blocks=12, block_size=4, max_sequences=1)
    soon, later = tokens(0, 8), tokens(1, 8)
    leave(core, later)
    leave(core, soon)
    core.expect(later, 0)
    start(core, tokens(2, 8), 2)
    start(core, soon, 1)
    core.step()

    order = [core.pool.blocks[id].tokens for id in core.pool.cached]

    assert order == [later[4:], later[:4], soon[4:], soon[:4]]


def test_of_an_idle_sequence_that_gives_way_the_expected_part_stays(toy_core: ToyCore) -> None:
    core = toy_core(num_blocks=8, block_size=4)
    idle = core.open(tokens(0, 24))
    core.score(idle, 24, on_done=ignored)
    drive(core)
    expected = core.expect(tokens(0, 24)[:12], 0)

    task = start(core, tokens(1, 14), 5)
    drive(core)

    assert idle.table.blocks == []
    assert task.drawn == toy_text(tokens(1, 14), 5)
    assert core.open(tokens(0, 24)).table.adopt(tokens(0, 24)) == 12
    expected.drop()

"""What is refused before anything is computed, and what is let through."""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

import ramet
from ramet import gen
from ramet.nodes import (
    Branch,
    Fork,
    Gen,
    Input,
    Keep,
    Node,
    Ref,
    Root,
    Sample,
    Score,
    Select,
    Text,
)
from ramet.params import SamplingParams
from ramet.passes.bounds import needs
from ramet.program import Program
from ramet.runtime import Engine
from ramet.runtime.admission import admit
from ramet.runtime.engine import bound_arguments
from ramet.runtime.errors import CapacityError, ContextLengthError, RequestError
from ramet.runtime.tokenizer import Piece, Tokenizer
from tests.runtime.conftest import ToyEngine, all_back, toy_model
from tests.runtime.tokenizers import byte_level, sentencepiece, smollm2


def graph(*nodes: Node) -> ramet.Graph:
    return ramet.Graph("g", (Root(), *nodes))


def draw(count: int = 4) -> SamplingParams:
    return SamplingParams(max_tokens=count, ignore_eos=True)


def refused(engine: Engine, program: Any, **arguments: Any) -> RequestError | None:
    """The error that comes before anything is computed."""
    try:
        run = engine.start(program, bound_arguments(program, (), arguments))
    except RequestError as error:
        assert toy_model(engine.core).forwards == 0
        assert all_back(engine.core)
        return error
    run.abort()
    return None


@pytest.mark.parametrize(
    ("length", "nodes", "wrong"),
    [
        (63, (Gen(1, "x", draw()),), False),
        (64, (Gen(1, "x", draw()),), True),  # one has to be left to generate
        (64, (Sample(1, "x", draw()),), True),
        (63, (Fork(1, 2), Branch(2, 1), Text(3, ("a",)), Gen(4, "x", draw())), True),
        (70, (Fork(1, 2), Branch(2, 1)), False),  # text alone is never computed
        (20, (Gen(1, "x", draw(60)), Gen(2, "y", draw(60))), False),  # it may end at once
    ],
)
def test_a_context_over_the_models(
    toy_engine: ToyEngine, length: int, nodes: tuple[Node, ...], wrong: bool
) -> None:
    engine = toy_engine(context=64)
    error = refused(engine, graph(Text(0, ("a" * length,)), *nodes))
    assert isinstance(error, ContextLengthError) == wrong
    assert error is None or (error.context, error.prompt >= 64) == (64, True)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "node", [Select(1, "x", ("a", "b")), Score(1, "x", ("a",))], ids=["select", "score"]
)
def test_an_option_may_belong_to_the_last_word(toy_engine: ToyEngine, node: Node) -> None:
    engine = toy_engine(context=64)
    assert refused(engine, graph(Text(0, ("a" * 64 + " b",)), node)) is None
    error = refused(engine, graph(Text(0, ("a" * 65 + " b",)), node))
    assert isinstance(error, ContextLengthError)
    assert error.prompt == 65


@pytest.mark.parametrize(
    ("length", "count", "wrong"),
    [(20, 12, False), (20, 13, True), (32, 1, True), (4, 2_000, True)],
)
def test_more_blocks_than_the_pool_has(
    toy_engine: ToyEngine, length: int, count: int, wrong: bool
) -> None:
    engine = toy_engine(num_blocks=9, block_size=4)
    error = refused(engine, graph(Text(0, ("a" * length,)), Gen(1, "x", draw(count))))
    assert isinstance(error, CapacityError) == wrong
    assert error is None or error.blocks == 9  # type: ignore[attr-defined]


def test_a_generation_is_never_longer_than_the_context_leaves(toy_engine: ToyEngine) -> None:
    engine = toy_engine(num_blocks=9, block_size=4, context=32)
    assert refused(engine, graph(Text(0, ("a" * 20,)), Gen(1, "x", draw(2_000)))) is None


def test_what_is_let_through_runs_or_is_refused_by_the_engine(toy_engine: ToyEngine) -> None:
    """The check is on the safe side: it refuses nothing that would have run."""
    for length in range(56, 72):
        for node in (Gen(1, "x", draw(3)), Select(1, "x", ("a", "b")), Score(1, "x", ("cd",))):
            engine = toy_engine(context=64)
            asked = graph(Text(0, (("b a " * 20)[:length],)), node)
            error = refused(engine, asked)
            try:
                engine.run(asked)
                ran = True
            except ContextLengthError:
                ran = False
            assert not (ran and error)


def test_a_branch_that_a_keep_may_end_is_let_through(toy_engine: ToyEngine) -> None:
    engine = toy_engine(context=64)
    start = (Text(0, ("a",)), Fork(1, 2), Branch(2, 0), Branch(2, 1))
    long = (Text(4, ("b" * 80,)), Gen(5, "x", draw()))
    assert refused(engine, graph(*start, *long, Keep(2, 3))) is None
    assert refused(engine, graph(*start, *long, Keep(2, 6))) is not None
    assert refused(engine, graph(*start, *long)) is not None


def test_the_error_notes_the_line_of_the_draw(toy_engine: ToyEngine) -> None:
    @ramet.program
    def long(s: ramet.State, topic: str) -> None:
        s += topic
        s += gen("x")

    engine = toy_engine(context=64)
    error = refused(engine, long.trace("a" * 80))
    assert error is not None
    (note,) = error.__notes__
    line = long.__wrapped__.__code__.co_firstlineno + 3  # type: ignore[attr-defined]
    assert note.startswith(f"in the program at {__file__}:{line}:")


def test_inputs_are_counted_once_they_are_given(toy_engine: ToyEngine) -> None:
    @ramet.program
    def about(s: ramet.State, topic: str) -> None:
        s += "About " + topic + ":"
        s += gen("x", max_tokens=4)

    engine = toy_engine(context=64)
    compiled = about.compile().graph
    assert refused(engine, compiled, topic="tea") is None
    assert isinstance(refused(engine, compiled, topic="a" * 80), ContextLengthError)


def test_a_pure_program_is_traced_as_far_as_it_goes(toy_engine: ToyEngine) -> None:
    calls = list[str]()

    def body(s: ramet.State, topic: str) -> None:
        calls.append(topic)
        s += topic
        s += gen("x", max_tokens=4)
        if s["x"] == "a":
            s += "b"

    engine = toy_engine(context=64)
    pure, plain = Program(body, "p", pure=True), Program(body, "p")
    assert isinstance(refused(engine, pure, topic="a" * 80), ContextLengthError)
    assert len(calls) == 1
    assert refused(engine, pure, topic="tea") is None
    assert refused(engine, pure.bind(topic="tea")) is None
    assert isinstance(refused(engine, pure.bind(topic="a" * 80)), ContextLengthError)
    calls.clear()
    assert refused(engine, plain, topic="a" * 80) is None
    assert not calls


def test_a_pure_program_that_is_wrong_fails_when_it_runs(toy_engine: ToyEngine) -> None:
    def body(s: ramet.State) -> None:
        s += gen("two words")

    engine = toy_engine()
    run = engine.start(Program(body, "p", pure=True), {})
    run.advance()
    with pytest.raises(ramet.GraphError, match="is not a name"):
        run.result()


def test_a_small_graph_is_admitted_in_no_time(toy_engine: ToyEngine) -> None:
    @ramet.program
    def tips(s: ramet.State, topic: str) -> None:
        s += "Give tips about " + topic
        for branch in s.fork(4):
            branch += "Tip:" + gen("tip", max_tokens=8)
        s += gen("summary", max_tokens=8)

    engine, traced = toy_engine(), tips.trace("tea")
    began = time.perf_counter()
    for _ in range(100):
        admit(engine.core, traced)
    assert (time.perf_counter() - began) / 100 < 1e-3


PIECES = [
    *("word", " word", "  ", " ", "\n", ".\n\n", "é", "日本", "aaaaaaaaa", ", ", " 12", "34", "'s"),
    *("\t", "👩‍👩‍👧", " The", " quick brown fox", "\u0301", "\u00a0"),
]
TOKENIZERS = {
    "smollm2": smollm2,
    "byte_level": byte_level,
    "first": lambda: sentencepiece("first"),
    "always": lambda: sentencepiece("always"),
    "legacy": lambda: sentencepiece("legacy"),
}


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_what_is_certain_is_certain_for_real_tokenizers(make: Callable[[], Tokenizer]) -> None:
    tokenizer, chance = make(), random.Random(1)

    def count(text: str, start: bool = False) -> int:
        return len(tokenizer.encode([Piece(text, control=False)], start=start))

    def text(most: int) -> str:
        return "".join(chance.choices(PIECES, k=chance.randint(1, most)))

    for _ in range(300):
        before, one, two, after = text(3), text(6), text(6), text(3)
        nodes = (
            Text(0, (one,)),
            Text(1, (two,)),
            Score(2, "x", ("a",)),
            Gen(3, "y"),
        )
        scored, drawn = needs(graph(*nodes), count)
        assert scored.context <= count(one + two + after, start=True)
        assert drawn.context <= count(one + two, start=True)
        (need,) = needs(graph(Input("a"), Text(0, (Ref(1), one, two)), Gen(2, "y")), count)
        assert need.context <= count(before + one + two, start=True)


def test_many_small_texts_take_time_in_proportion() -> None:
    """The text before the draw is one long word in 30,000 pieces."""
    nodes = [Text(at, ("x",)) for at in range(30_000)]
    began = time.process_time()
    (need,) = needs(graph(*nodes, Gen(30_000, "y")), len)
    assert need.context == 30_000
    assert time.process_time() - began < 2

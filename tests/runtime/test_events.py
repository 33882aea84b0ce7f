"""What a run tells while it goes on."""

import ramet
from ramet.runtime.events import (
    BranchKept,
    BranchOpened,
    BranchReleased,
    Event,
    NodeStarted,
    TextDelta,
    ValueBound,
)
from ramet.runtime.values import GenInfo
from tests.runtime.conftest import ToyEngine

CHOOSE = ramet.loads(
    """
program inner():
    "inner"
    gen thought(max_tokens=2, ignore_eos=true)

program choose():
    "Pick: "
    fork i in range(3) as tries:
        "{i}:"
        gen pick(max_tokens=3, ignore_eos=true)
    keep tries[1]
    gen end(max_tokens=2, ignore_eos=true)
""",
    "choose",
)


def told(engine: ToyEngine, program: object) -> list[Event]:
    return [*engine().stream(program)]  # type: ignore[arg-type]


def test_branches_open_and_one_is_kept(toy_engine: ToyEngine) -> None:
    events = told(toy_engine, CHOOSE)
    branches = [f"/1.{index}" for index in range(3)]
    assert [e.path for e in events if isinstance(e, BranchOpened)] == branches
    assert [e.path for e in events if isinstance(e, BranchReleased)] == ["/1.0", "/1.2"]
    assert [e.path for e in events if isinstance(e, BranchKept)] == ["/1.1"]


def test_every_node_starts_once_and_before_its_value(toy_engine: ToyEngine) -> None:
    events = told(toy_engine, CHOOSE)
    started = [e for e in events if isinstance(e, NodeStarted)]
    assert len({e.node for e in started}) == len(started)
    assert {(e.kind, e.name) for e in started} >= {("gen", "pick"), ("fork", None), ("keep", None)}
    for bound in (e for e in events if isinstance(e, ValueBound)):
        begins = next(i for i, e in enumerate(events) if e in started and e.node == bound.node)  # type: ignore[union-attr]
        assert begins < events.index(bound)
        assert isinstance(bound.info, GenInfo)


def test_the_tokens_of_the_deltas_are_those_of_the_value(toy_engine: ToyEngine) -> None:
    events = told(toy_engine, CHOOSE)
    for bound in (e for e in events if isinstance(e, ValueBound)):
        deltas = [e for e in events if isinstance(e, TextDelta) and e.node == bound.node]
        assert isinstance(bound.info, GenInfo)
        assert "".join(delta.text for delta in deltas) == bound.value
        drawn = tuple(token for delta in deltas for token in delta.tokens)
        assert drawn == bound.info.tokens[: len(drawn)]
        assert len(drawn) == len(bound.info.tokens)


def test_a_program_that_is_called_opens_a_state(toy_engine: ToyEngine) -> None:
    program = ramet.loads(
        """
program inner():
    "inner"
    gen thought(max_tokens=2, ignore_eos=true)
    return thought

program outer():
    call inner() as got
    "{got}"
    gen end(max_tokens=2, ignore_eos=true)
""",
        "outer",
    )
    events = told(toy_engine, program)
    assert BranchOpened("/call0") in events

"""A graph that was simplified gives what it gave before, also where it draws."""

import pytest
from hypothesis import HealthCheck, given, settings

import ramet
from ramet import gen
from ramet.passes import simplify
from ramet.runtime import Engine, Finished
from ramet.runtime.errors import GenerationError
from ramet.runtime.events import Event, ValueBound
from tests.frontend_lang.graphs import graphs
from tests.runtime.conftest import ToyEngine, all_back


def outcome(engine: Engine, graph: ramet.Graph, bound: list[str]) -> Finished | None:
    """What the run came to; None if a keep took a value away before it was there."""

    def told(event: Event) -> None:
        if isinstance(event, ValueBound):
            bound.append(f"{event.path}:{event.name}={event.value!r}")

    one = engine.start(graph, {}, on_event=told)
    while not one.done:
        engine.round([one])
    assert all_back(engine.core)
    try:
        return one.result()
    except GenerationError as error:
        if "keep released" not in str(error):
            raise
        return None


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(graph=graphs(size=12, runs=True))
def test_a_simple_graph_gives_the_same_values(toy_engine: ToyEngine, graph: ramet.Graph) -> None:
    engine = toy_engine()
    bound: tuple[list[str], list[str]] = [], []
    before = outcome(engine, graph, bound[0])
    after = outcome(engine, simplify(graph), bound[1])
    assert (before is None) == (after is None)
    if before is None or after is None:
        return
    assert repr(after.value) == repr(before.value)
    assert after.root.variables == before.root.variables
    assert after.text == before.text
    assert sorted(bound[0]) == sorted(bound[1])


def test_a_compiled_program_draws_what_the_program_draws(toy_engine: ToyEngine) -> None:
    @ramet.program
    def votes(s: ramet.State, topic: str, n: int = 3) -> object:
        s += "About "
        s += topic
        s += ":"
        for branch in s.fork(n):
            branch += "unused"
        paths = s.branch(gen("path", n=n, max_tokens=6, temperature=1.0))
        for path in paths:
            path += " so" + gen("vote", max_tokens=3, temperature=0.7)
        s += gen("end", max_tokens=4, temperature=1.0)
        return [paths["vote"], s["end"], topic]

    engine = toy_engine()
    value = engine.run(votes, topic="tea").value
    compiled = votes.compile()
    assert compiled.stops is None
    assert len(compiled.graph.nodes) < len(votes.trace("tea").nodes)
    assert engine.run(compiled.graph, topic="tea").value == value
    with pytest.raises(ramet.ArgumentError, match="the argument 'topic' is missing"):
        engine.run(compiled.graph)
    with pytest.raises(ramet.ArgumentError, match="no input 'tpic'; did you mean 'topic'"):
        engine.run(compiled.graph, tpic="tea")
    with pytest.raises(ramet.ArgumentError, match="by name"):
        engine.run(compiled.graph, "tea")

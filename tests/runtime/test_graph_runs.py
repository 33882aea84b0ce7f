"""A request graph runs as the program does that it was traced from."""

import pytest

import ramet
from ramet.runtime import Engine
from ramet.runtime.result import FinishedState
from ramet.runtime.sequence import Usage
from tests.runtime.conftest import ToyEngine, toy_model
from tests.runtime.legible import legible
from tests.runtime.running import gen, run, tips


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Engine:
    return legible(toy_engine())


@ramet.program
def everything(s: ramet.State, topic: str) -> object:
    s += ramet.system("Be brief.")
    s += ramet.user("About " + topic)
    with s.assistant():
        s += gen("open", 5)
        branches = s.fork(2)
        for index, branch in enumerate(branches):
            branch += f" view {index} "
            branch += gen("view", 4)
        s += " so " + branches["view"].join(", ")
        s += ramet.select("verdict", [" good", " bad"], by="unconditional")
        s += gen("many", 3, n=3, temperature=1.0)
        s += gen("drawn", 6, temperature=0.7)
    return {
        "views": branches["view"],
        "all": (s["open"], s["verdict"], s["many"], s["drawn"]),
        "how": s["verdict"].prob,
        "text": "It is" + s["verdict"],
        "fixed": [1, 2.5, None, True],
    }


def test_a_graph_comes_to_the_same_as_the_program(engine: Engine) -> None:
    graph = everything.trace(topic="tea")
    again = ramet.from_json(ramet.to_json(graph))

    embedded = run(engine, everything, topic="tea")
    for program in (graph, again):
        engine.core.pool.clear()
        finished = run(engine, program)
        assert finished.value == embedded.value
        assert texts(finished.root) == texts(embedded.root)
        assert finished.graph == embedded.graph == graph


def texts(state: FinishedState) -> object:
    return state.path, state.text, dict(state.variables), list(map(texts, state.branches))


def test_without_a_return_all_variables_are_the_value(engine: Engine) -> None:
    @ramet.program
    def silent(s: ramet.State) -> None:
        s += "a "
        s += gen("x", 2)
        s += gen("y", 2)

    finished = run(engine, silent)
    assert finished.value == {"x": finished["x"], "y": finished["y"]}


def test_the_result_of_a_run(engine: Engine) -> None:
    finished = run(engine, tips, count=2)
    root = finished.root
    assert root.path == ""
    assert [branch.path for branch in root.branches] == ["/1.0", "/1.1"]
    assert [span.generated for span in root.written] == [False, False, True]
    assert "".join(span.text for span in root.written) == root.text == finished.text
    assert dict(root.variables) == {"summary": finished["summary"]}
    assert root.branches[0].variables == {"tip": finished.value["tips"][0]}
    total = Usage()
    for state in root.walk():
        total.add(state.usage)
    assert total == finished.usage
    assert total.generated == 2 * 5 + 6
    with pytest.raises(ramet.UnknownVariable, match="did you mean 'summary'"):
        finished["sumary"]
    with pytest.raises(ramet.UnknownVariable):
        finished.info("sumary")


def test_the_usage_of_a_run_is_what_the_model_did(engine: Engine) -> None:
    finished = run(engine, everything, topic="tea")
    usage, stats = finished.usage, engine.stats()
    # A generation runs all its tokens but the last.
    generations = 1 + 2 + 3 + 1
    assert stats.tokens == toy_model(engine.core).tokens_run
    assert stats.tokens == usage.prompt_computed + usage.generated - generations
    assert usage.copied_blocks == stats.cache.copies

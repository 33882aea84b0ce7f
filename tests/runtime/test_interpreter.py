"""What programs come to: states side by side, values, and when blocks go back.

Every text is held against the toy model without a cache: the text that a state shows, encoded
anew, goes on as the model went on.
"""

from typing import Any

import pytest

import ramet
from ramet.nodes import Branch, Close, Fork, Open, Root, Text
from ramet.runtime import Engine
from ramet.runtime.values import SelectInfo
from tests.runtime.conftest import ToyEngine, all_back
from tests.runtime.legible import encoded, legible, letters
from tests.runtime.running import batches, gen, run, tips


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Engine:
    return legible(toy_engine())


# -- branches


def test_branches_and_a_value_of_theirs_in_the_parents_text(engine: Engine) -> None:
    finished = run(engine, tips)

    wanted = [letters(engine, f"Give tips. Tip {index}:", 5) for index in range(3)]
    text = "Give tips. All: " + "; ".join(wanted) + "."
    assert finished.value == {"tips": wanted, "summary": letters(engine, text, 6)}
    assert finished.text == text + finished.value["summary"]
    assert [state.text for state in finished.root.branches] == [
        f"Tip {index}:{tip}" for index, tip in enumerate(wanted)
    ]


def test_branches_run_in_the_same_step(engine: Engine) -> None:
    seen = batches(engine)
    run(engine, tips, count=5)
    widths = [len(batch.entries) for batch in seen]
    # Five prompts and four more tokens of each, then the summary alone.
    assert widths == [5] * 5 + [1] * 6


def test_a_parent_goes_on_while_its_branches_run(engine: Engine) -> None:
    @ramet.program
    def both(s: ramet.State) -> object:
        s += "Start: "
        s += gen("a")
        branches = s.fork(2)
        for index, branch in enumerate(branches):
            branch += f"{index} in a branch "
            branch += gen("b", 8)
        s += "meanwhile "
        s += gen("c", 8)
        return s["a"], branches["b"], s["c"]

    seen = batches(engine)
    a, b, c = run(engine, both).value

    assert a == letters(engine, "Start: ", 4)
    assert b == [letters(engine, f"Start: {a}{index} in a branch ", 8) for index in range(2)]
    assert c == letters(engine, f"Start: {a}meanwhile ", 8)
    assert [len(batch.entries) for batch in seen] == [1] * 4 + [3] * 8


def test_a_branch_inherits_text_variables_and_the_open_role(engine: Engine) -> None:
    @ramet.program
    def turns(s: ramet.State) -> object:
        s += ramet.user("hello")
        with s.assistant():
            s += "first "
            s += gen("a")
            branches = s.fork(2)
            for branch in branches:
                branch += " again " + branch["a"]
        for index, branch in enumerate(branches):
            if index == 0:
                branch += gen("b")
        return branches[0]["b"], branches[1]["a"]

    with pytest.raises(ramet.RametError):
        # The branch's turn is still open: it has to be closed on the branch itself.
        run(engine, opens_again)
    b, a = run(engine, turns).value
    assert a == letters(engine, "User: hello\nAssistant:first ", 4)
    assert b == letters(engine, f"User: hello\nAssistant:first {a} again {a}", 4)


@ramet.program
def opens_again(s: ramet.State) -> None:
    with s.user():
        s += "hello"
        (branch,) = s.fork(1)
        branch += ramet.user("twice")


def test_the_closing_of_a_turn_knows_what_a_branch_inherited(engine: Engine) -> None:
    """The template is asked with the whole message, what stood before the fork included."""
    graph = ramet.Graph(
        "inherited",
        (
            Root(),
            Open(0, "user"),
            Text(1, ("one ",)),
            Fork(2, 1),
            Branch(3, 0),
            Text(4, ("two",)),
            Close(5, "user"),
        ),
    )
    one = engine.start(graph, {})
    while not one.done:
        engine.round([one])
    (child,) = one._interpreter.root.children
    assert child.conversation.roles == ("user",)


def test_nested_forks(engine: Engine) -> None:
    @ramet.program
    def tree(s: ramet.State) -> object:
        s += "root "
        found = []
        for i, outer in enumerate(s.fork(2)):
            outer += f"{i} "
            outer += gen("x", 3)
            inner = outer.fork(2)
            for j, leaf in enumerate(inner):
                leaf += f"-{j} "
                leaf += gen("y", 3)
            found.append(inner["y"])
        return found[0], found[1]

    finished = run(engine, tree)
    for i in range(2):
        stem = f"root {i} "
        stem += letters(engine, stem, 3)
        assert finished.value[i] == [letters(engine, f"{stem}-{j} ", 3) for j in range(2)]
    paths = [state.path for state in finished.root.walk()]
    assert paths == ["", "/1.0", "/1.0/2.0", "/1.0/2.1", "/1.1", "/1.1/2.0", "/1.1/2.1"]


def test_a_value_in_the_text_of_another_branch(engine: Engine) -> None:
    """It waits for that branch, and for nobody else."""

    @ramet.program
    def chained(s: ramet.State) -> object:
        s += "go "
        first, second, third = s.fork(3)
        first += gen("x", 6)
        second += "after " + first["x"] + " "
        second += gen("x", 2)
        third += gen("x", 10)
        return first["x"], second["x"], third["x"]

    first, second, third = run(engine, chained).value
    assert first == letters(engine, "go ", 6)
    assert second == letters(engine, f"go after {first} ", 2)
    assert third == letters(engine, "go ", 10)


def test_a_program_on_a_state_of_another(engine: Engine) -> None:
    @ramet.program
    def ask(s: ramet.State, what: str) -> object:
        s += what + ": "
        s += gen("answer")
        return s["answer"]

    @ramet.program
    def outer(s: ramet.State) -> object:
        first = ask(s, "one")
        second = ask(s, first)
        return first, second

    first, second = run(engine, outer).value
    assert first == letters(engine, "one: ", 4)
    assert second == letters(engine, f"one: {first}{first}: ", 4)


# -- values in the body


def test_the_body_waits_where_it_looks(engine: Engine) -> None:
    @ramet.program
    def loop(s: ramet.State) -> object:
        seen = []
        s += "count: "
        for step in range(3):
            s += gen(f"x{step}", 2 + step)
            seen.append(len(s[f"x{step}"]))
            if s[f"x{step}"] == "never":
                s += "no"
            else:
                s += "|" * seen[-1]
        words = f"{s['x0']}-{s['x1']}"
        s += words
        s += gen("last")
        return {"seen": seen, "words": words, "last": s["last"]}

    finished = run(engine, loop)
    text = "count: "
    values = []
    for step in range(3):
        values.append(letters(engine, text, 2 + step))
        text += values[-1] + "|" * (2 + step)
    text += f"{values[0]}-{values[1]}"
    assert finished.value == {
        "seen": [2, 3, 4],
        "words": f"{values[0]}-{values[1]}",
        "last": letters(engine, text, 4),
    }


def test_a_lazy_sum_does_not_wait(engine: Engine) -> None:
    """The whole graph is there before anything runs."""
    reached: list[str] = []

    @ramet.program
    def lazy(s: ramet.State) -> object:
        s += "a "
        s += gen("x")
        s += "so " + s["x"] + ", then "
        s += gen("y")
        reached.append("end")
        return "both: " + s["x"] + s["y"]

    one = engine.start(lazy, {})
    one.advance()
    assert reached == ["end"]
    assert engine.stats().steps == 0
    while not one.done:
        engine.round([one])
        engine.audit()
    x = letters(engine, "a ", 4)
    assert one.result().value == f"both: {x}" + letters(engine, f"a {x}so {x}, then ", 4)


def test_a_look_at_one_branch_lets_the_others_run(engine: Engine) -> None:
    @ramet.program
    def first_only(s: ramet.State) -> object:
        s += "go "
        branches = s.fork(3)
        for index, branch in enumerate(branches):
            branch += f"{index} "
            branch += gen("x", 3 * (index + 1))
        s += "!" * len(branches[0]["x"])
        s += gen("own")
        return s["own"]

    seen = batches(engine)
    assert run(engine, first_only).value == letters(engine, "go !!!", 4)
    assert max(len(batch.entries) for batch in seen) == 3
    # The parent starts when the first branch is through, beside the two others.
    assert [len(batch.entries) for batch in seen] == [3] * 3 + [3] * 3 + [2] + [1] * 2


def test_attributes_of_values(engine: Engine) -> None:
    @ramet.program
    def attributes(s: ramet.State) -> object:
        s += "a "
        s += gen("x", 3, logprobs=0)
        s += ramet.select("y", ["b", "c"])
        s += " p=" + s["y"].prob + " why=" + s["x"].finish_reason
        assert 0 < s["x"].prob < 1
        assert s["y"].probs["b"] + s["y"].probs["c"] == pytest.approx(1)
        return s["x"].tokens, s["y"].prob

    finished = run(engine, attributes)
    tokens, prob = finished.value
    assert tokens == tuple(encoded(engine, finished["x"]))  # type: ignore[arg-type]
    info = finished.info("y")
    assert isinstance(info, SelectInfo)
    assert prob == info.prob == max(info.probs.values())
    assert finished.text.endswith(f" p={prob} why=length")


def test_a_body_that_raises(engine: Engine) -> None:
    @ramet.program
    def wrong(s: ramet.State) -> None:
        s += "a "
        for branch in s.fork(3):
            branch += gen("x", 20)
        s += gen("y")
        if len(s["y"]):
            raise LookupError("no such thing")

    one = engine.start(wrong, {})
    while not one.done:
        engine.round([one])
        engine.audit()
    assert all_back(engine.core)
    with pytest.raises(LookupError, match="no such thing") as caught:
        one.result()
    assert any(entry.name == "wrong" for entry in caught.traceback)
    assert one.partial()["y"] == letters(engine, "a ", 4)


def test_an_error_tells_the_line_of_its_node(engine: Engine) -> None:
    """Of the node that failed, and not of the one before it."""

    @ramet.program
    def wrong(s: ramet.State) -> None:
        s += "a "
        s += gen("x")
        s += " b" + s["x"].prob

    (error,) = engine.run_batch(wrong, [{}])
    assert "prob needs the log-probabilities" in str(error)
    (note,) = error.__notes__  # type: ignore[union-attr]
    assert note.startswith(f"in the program at {__file__}:{line_of(wrong, 4)}:")


def test_an_engine_error_notes_the_line_of_its_node(engine: Engine) -> None:
    @ramet.program
    def wrong(s: ramet.State) -> None:
        branch = s.fork(1)[0]
        branch += gen("x")
        s += "a"

    (error,) = engine.run_batch(wrong, [{}])
    assert isinstance(error, Exception)
    (note,) = error.__notes__
    assert note.startswith(f"in the program at {__file__}:{line_of(wrong, 3)}:")


def test_a_wrong_attribute_is_refused_at_once(engine: Engine) -> None:
    @ramet.program
    def wrong(s: ramet.State) -> None:
        s += "a "
        s += gen("x")
        s += " b" + s["x"].probs

    (error,) = engine.run_batch(wrong, [{}])
    assert isinstance(error, ramet.GraphError)
    assert "'probs' is no attribute of gen; did you mean 'prob'?" in error.message
    assert error.span is not None
    assert (error.span.file, error.span.line) == (__file__, line_of(wrong, 4))


def line_of(program: Any, after: int) -> int:
    """The line that many after the decorator of the program."""
    return program.__wrapped__.__code__.co_firstlineno + after


# -- when blocks go back


def test_states_that_are_over_give_their_blocks_back_at_once(engine: Engine) -> None:
    """A graph is known to its end: a branch holds nothing once its last node has run."""

    @ramet.program
    def uneven(s: ramet.State) -> object:
        s += "x" * 31
        short, long = s.fork(2)
        short += "y" * 64
        short += gen("a", 2)
        long += "z"
        long += gen("a", 30)
        return short["a"], long["a"]

    graph = uneven.trace()
    for program in (graph, uneven):
        engine.core.pool.clear()
        one = engine.start(program, {})
        held = []
        while not one.done:
            engine.round([one])
            engine.audit()
            held.append(engine.stats().cache.held)
        assert held[:2] == [6, 2], "two branches; the long one alone"
        assert held[-2:] == [4, 0]


def test_options_hold_blocks_only_while_they_are_run(engine: Engine) -> None:
    @ramet.program
    def choose(s: ramet.State) -> None:
        s += "x" * 16
        s += ramet.select("y", ["a" * 40, "b" * 40, "c" * 40])
        s += gen("z", 30)

    one = engine.start(choose, {})
    held = []
    while not one.done:
        engine.round([one])
        engine.audit()
        held.append(engine.stats().cache.held)
    assert held[:2] == [1, 4], "the context; with the option that was chosen"
    usage = one.result().usage
    assert usage.prompt_computed == 16 + 3 * 39 + 40
    assert usage.prompt_reused == 2 * 16 + 16, "as if each option had been a request"


def test_a_run_that_ends_keeps_nothing(engine: Engine) -> None:
    run(engine, tips)
    again = run(engine, tips)
    # But it can be found: the second run computes a token of each prompt, or part of a block.
    assert again.usage.prompt_reused > 0
    assert again.value == run(engine, tips).value


# -- randomness by place


@ramet.program
def wild(s: ramet.State) -> object:
    s += "dice "
    branches = s.fork(3)
    for branch in branches:
        branch += gen("x", 8, temperature=1.0)
    s += gen("y", 8, temperature=1.0)
    s += gen("z", 8, temperature=1.0)
    return branches["x"], s["y"], s["z"]


def test_draws_depend_on_their_place_alone(toy_engine: ToyEngine) -> None:
    reference = run(legible(toy_engine()), wild).value
    x, y, _ = reference
    assert len({*x, y}) == 4, "each place draws for itself"
    for settings in ({"num_blocks": 8, "block_size": 4}, {"step_tokens": 3}, {"max_sequences": 1}):
        assert run(legible(toy_engine(**settings)), wild).value == reference


def test_selects_on_one_state_draw_apart(engine: Engine) -> None:
    """So hot that all options are as likely: one place's draw says nothing of another's."""

    @ramet.program
    def twice(s: ramet.State, seed: int) -> object:
        s += "pick "
        s += ramet.select("x", ["a", "b", "c", "d"], temperature=100.0, seed=seed)
        s += ramet.select("y", ["a", "b", "c", "d"], temperature=100.0, seed=seed)
        return s["x"] + s["y"]

    pairs = {run(engine, twice, seed=seed).value for seed in range(24)}
    assert any(x != y for x, y in pairs)
    assert len(pairs) > 8


def test_another_seed_draws_something_else(toy_engine: ToyEngine) -> None:
    values = {str(run(legible(toy_engine(seed=seed)), wild).value) for seed in (0, 1, 2**63)}
    assert len(values) == 3


def test_a_seed_of_its_own_is_kept_whatever_the_engines(toy_engine: ToyEngine) -> None:
    @ramet.program
    def fixed(s: ramet.State) -> object:
        s += "dice "
        s += gen("x", 8, temperature=1.0, seed=7)
        return s["x"]

    values = {run(legible(toy_engine(seed=seed)), fixed).value for seed in (0, 1, 2)}
    assert len(values) == 1

"""Samples that go on as branches, and keep, on a model that can be worked out."""

import pytest

import ramet
from ramet.passes import simplify
from ramet.runtime import Engine
from ramet.runtime.errors import Aborted, GenerationError
from tests.runtime.conftest import ToyEngine, all_back
from tests.runtime.legible import legible, letters
from tests.runtime.running import drive, gen, outline, run


@pytest.fixture(params=[4, 16])
def engine(request: pytest.FixtureRequest, toy_engine: ToyEngine) -> Engine:
    return legible(toy_engine(block_size=request.param))


# -- samples that go on as branches


@ramet.program
def votes(s: ramet.State, n: int) -> object:
    s += "x" * 64
    paths = s.branch(gen("path", 8, n=n, temperature=1.0, seed=3))
    for path in paths:
        path += " so" + gen("vote", 2)
    return [paths["path"], paths["vote"]]


def test_each_sample_goes_on_from_its_own_text(engine: Engine) -> None:
    paths, ends = run(engine, votes, n=3).value
    assert len(set(paths)) == 3
    for path, vote in zip(paths, ends, strict=True):
        assert vote == letters(engine, "x" * 64 + path + " so", 2)


def test_a_branch_goes_on_without_recomputing_its_sample(engine: Engine) -> None:
    """What a branch computes is the last token that was drawn, and its own text."""
    done = run(engine, votes, n=3)
    for branch in done.root.branches:
        assert branch.usage.generated == 2
        assert branch.usage.prompt_computed == 1 + len(" so")
        assert branch.usage.prompt_reused == 64 + 8 - 1
    assert done.root.usage.generated == 3 * 8
    assert done.root.usage.prompt_computed == 64 + 2  # each draw needs the last token's logits


def test_the_state_itself_goes_on_without_any_sample(engine: Engine) -> None:
    @ramet.program
    def through(s: ramet.State) -> object:
        s += "abc"
        s.branch(gen("x", n=2, temperature=1.0))
        s += gen("y")
        return s["y"]

    done = run(engine, through)
    assert done.value == letters(engine, "abc", 4)
    assert done.text == "abc" + done.value


def test_samples_differ_by_number_and_not_by_run(engine: Engine) -> None:
    first, again = (run(engine, votes, n=4).value for _ in range(2))
    assert first == again


# -- keep


@ramet.program
def kept(s: ramet.State, best: int) -> object:
    s += "The context is: "
    drafts = s.branch(gen("plan", 6, n=3, temperature=1.0))
    plans = list(drafts["plan"])
    s.keep(drafts[best])
    s += "!" + gen("end")
    return [plans, s["plan"], s["end"]]


@pytest.mark.parametrize("best", [0, 2])
def test_a_state_goes_on_as_what_it_kept(engine: Engine, best: int) -> None:
    done = run(engine, kept, best=best)
    plans, plan, end = done.value
    assert plan == plans[best]
    assert end == letters(engine, f"The context is: {plan}!", 4)
    assert done.text == f"The context is: {plan}!{end}"
    assert done["plan"] == plan


def test_what_is_kept_is_not_computed_again(engine: Engine) -> None:
    done = run(engine, kept, best=1)
    assert done.usage.prompt_computed == len("The context is: ") + 2 + 1 + len("!")


def test_keep_gives_the_siblings_blocks_back_in_the_same_step(toy_engine: ToyEngine) -> None:
    engine = legible(toy_engine(block_size=4))
    held = list[int]()

    @ramet.program
    def tree(s: ramet.State) -> None:
        s += "x" * 16
        drafts = s.branch(gen("plan", 9, n=4, temperature=1.0))
        list(drafts["plan"])
        held.append(engine.stats().cache.held)
        s.keep(drafts[2])
        s += gen("end", 8)

    one = engine.start(tree, {})
    while not held:
        engine.round([one])
    engine.audit()
    # The shared context, and the blocks of four branches before, of one from then on.
    assert held[0] > 4 + 2 * 2
    assert engine.stats().cache.held <= 4 + 2 + 1
    assert engine.stats().sequences == 1
    drive(engine, one)
    assert all_back(engine.core)


def test_keep_ends_siblings_that_still_generate(engine: Engine) -> None:
    """A graph is known to its end, so a state keeps a branch as soon as that is through."""

    @ramet.program
    def raced(s: ramet.State) -> object:
        s += "abc"
        short, long = s.fork(2)
        short += gen("x", 2)
        long += gen("y", 500)
        s.keep(short)
        s += gen("z", 2)
        return [s["x"], s["z"]]

    one = engine.start(raced.trace(), {})
    drive(engine, one)
    assert all_back(engine.core)
    x = letters(engine, "abc", 2)
    assert one.result().value == [x, letters(engine, "abc" + x, 2)]
    assert engine.stats().steps < 20


@pytest.mark.parametrize("look", [True, False])
def test_a_value_that_keep_released_is_an_error_and_no_hang(engine: Engine, look: bool) -> None:
    @ramet.program
    def lost(s: ramet.State) -> object:
        s += "abc"
        short, long = s.fork(2)
        short += gen("x", 2)
        long += gen("y", 500)
        s.keep(short)
        if look:
            str(s["x"])
            return len(long["y"])
        s += long["y"]
        return s["x"]

    with pytest.raises(GenerationError, match="not there yet when keep released its branch"):
        run(engine, lost)


def test_a_released_value_in_a_result_or_under_a_released_branch(engine: Engine) -> None:
    @ramet.program
    def lost(s: ramet.State) -> object:
        s += "abc"
        short, long = s.fork(2)
        inner = long.fork(2)
        inner[1] += gen("y", 500)
        s.keep(short)
        return inner[1]["y"]

    with pytest.raises(GenerationError, match="not there yet when keep released its branch"):
        run(engine, lost)
    with pytest.raises(GenerationError, match="not there yet when keep released its branch"):
        run(engine, lost.trace())


def test_a_value_that_was_there_outlives_its_branch(engine: Engine) -> None:
    @ramet.program
    def compared(s: ramet.State) -> object:
        s += "abc"
        drafts = s.fork(2)
        for draft in drafts:
            draft += gen("x")
        list(drafts["x"])
        s.keep(drafts[0])
        s += drafts[1]["x"]
        return drafts[1]["x"]

    assert run(engine, compared).value == letters(engine, "abc", 4)


def test_what_lies_under_a_kept_branch_goes_on(engine: Engine) -> None:
    @ramet.program
    def nested(s: ramet.State) -> object:
        s += "abc"
        outer = s.fork(2)
        inner = outer[0].fork(2)
        s.keep(outer[0])
        inner[1] += "d" + gen("x")
        s.keep(inner[1])
        s += "e" + gen("y")
        return [s["x"], s["y"]]

    for program in (nested, nested.trace(), simplify(nested.trace())):
        x = letters(engine, "abcd", 4)
        assert run(engine, program).value == [x, letters(engine, f"abcd{x}e", 4)]

    @ramet.program
    def within(s: ramet.State) -> object:
        s += "abc"
        outer = s.fork(2)
        inner = outer[0].fork(2)
        s.keep(outer[0])
        inner[1] += "d" + gen("x")
        s += "e" + gen("y")
        return [inner[1]["x"], s["y"]]

    for program in (within, within.trace()):
        assert run(engine, program).value == [
            letters(engine, "abcd", 4),
            letters(engine, "abce", 4),
        ]


def test_keep_after_keep(engine: Engine) -> None:
    @ramet.program
    def search(s: ramet.State, depth: int) -> object:
        s += "abc"
        for step in range(depth):
            drafts = s.fork(2)
            for i, draft in enumerate(drafts):
                draft += f"{i}" + gen(f"x{step}", 2)
            s.keep(drafts[step % 2])
        return "".join(str(value) for value in s.variables.values())

    done = run(engine, search, depth=5)
    text = "abc"
    for step in range(5):
        text += f"{step % 2}"
        text += letters(engine, text, 2)
    assert done.text == text


# -- giving up


@ramet.program
def everything(s: ramet.State) -> object:
    s += "The context. "
    s.score("fit", "this")
    drafts = s.branch(gen("plan", 6, n=3, temperature=1.0))
    for draft in drafts:
        draft.score("merit", "so")
        outline.call(draft, "tea")
        draft.fork(2)[1].__iadd__("b" + gen("w", 3))
    merits = list(drafts["merit"])
    s.keep(drafts[merits.index(max(merits))])
    s += "!" + gen("end", 6)
    return s["end"]


def test_an_abort_at_any_moment_gives_everything_back(toy_engine: ToyEngine) -> None:
    engine = legible(toy_engine(block_size=4))
    whole = engine.start(everything, {})
    drive(engine, whole)
    value, steps = whole.result().value, engine.stats().steps
    assert steps > 10
    for after in range(steps):
        one = engine.start(everything, {})
        for _ in range(after):
            engine.round([one])
        if one.done:
            continue
        one.abort()
        assert all_back(engine.core)
        with pytest.raises(Aborted):
            one.result()
        one.partial()
    assert run(engine, everything).value == value


def test_a_branch_that_nobody_can_name_gives_its_blocks_back(toy_engine: ToyEngine) -> None:
    """At once, and not when the program ends: nothing in it keeps a branch."""
    engine = toy_engine()
    program = ramet.loads(
        'program p():\n    "start"\n    fork 4 as f:\n'
        "        gen a(max_tokens=2, ignore_eos=true, temperature=1.0)\n"
        "    gen b(max_tokens=60, ignore_eos=true)"
    )
    run = engine.start(program, {})
    for _ in range(12):
        engine.round([run])
    assert engine.stats().sequences == 1
    run.abort()
    engine.audit()


def write(draft: ramet.State) -> None:
    draft += ramet.gen("a", max_tokens=2, ignore_eos=True, temperature=1.0)


def test_a_branch_in_python_that_is_let_go_gives_its_blocks_back(toy_engine: ToyEngine) -> None:
    @ramet.program
    def p(s: ramet.State, hold: bool) -> None:
        s += "start "
        drafts = s.fork(3)
        drafts.each(lambda draft, i: write(draft))
        if not hold:
            del drafts
        s += ramet.gen("b", max_tokens=40, ignore_eos=True)
        str(s["b"])

    for hold, sequences in ((False, 1), (True, 4)):
        engine = toy_engine()
        run = engine.start(p, {"hold": hold})
        for _ in range(12):
            engine.round([run])
        assert engine.stats().sequences == sequences
        run.abort()
        engine.audit()


def test_a_branch_of_the_branch_that_was_kept_can_be_kept(toy_engine: ToyEngine) -> None:
    """The state is that branch, with its forks."""
    program = ramet.loads(
        'program p():\n    "start"\n    fork i in range(2) as outer:\n        "{i}"\n'
        "        gen a(max_tokens=2, ignore_eos=true)\n        fork j in range(2) as inner:\n"
        '            "-{j}"\n            gen b(max_tokens=2, ignore_eos=true)\n'
        "    keep outer[1]\n    keep inner[0]\n    gen c(max_tokens=2, ignore_eos=true)\n"
        "    return [a, b, c]"
    )
    engine = toy_engine()
    done = engine.run(program)
    a, b, c = done.value
    assert done.text == f"start1{a}-0{b}{c}"
    assert engine.run(simplify(done.graph)).value == done.value
    assert engine.stats().sequences == 0
    engine.audit()

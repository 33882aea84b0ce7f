"""Scores of texts, on a model that can be worked out."""

import math

import pytest

import ramet
from ramet.runtime import Engine
from ramet.runtime.errors import ContextLengthError, PromptError
from ramet.runtime.values import ScoreInfo
from tests.runtime.conftest import ToyEngine
from tests.runtime.legible import encoded, legible, legible_logits, letters
from tests.runtime.running import gen, run


@pytest.fixture(params=[4, 16])
def engine(request: pytest.FixtureRequest, toy_engine: ToyEngine) -> Engine:
    return legible(toy_engine(block_size=request.param))


def logprob(engine: Engine, before: str, text: str) -> float:
    """Log-probability of the text after the other, worked out without a cache."""
    row, total = encoded(engine, before + text), 0.0
    for at in range(len(encoded(engine, before)), len(row)):
        total += float(legible_logits(engine, row[:at]).log_softmax(-1)[row[at]])
    return total


def test_a_score_is_the_sum_of_log_probabilities(engine: Engine) -> None:
    @ramet.program
    def scored(s: ramet.State) -> object:
        s += "the context "
        fit = s.score("fit", "a bad face")
        s += ramet.score("other", "had") + gen("x")
        return {"fit": fit, "mean": fit.mean, "prob": fit.prob, "other": s["other"]}

    done = run(engine, scored)
    fit, other = (logprob(engine, "the context ", text) for text in ("a bad face", "had"))
    assert done.value["fit"] == pytest.approx(fit, abs=1e-4)
    assert done.value["other"] == pytest.approx(other, abs=1e-4)
    assert done.value["mean"] == pytest.approx(fit / len("a bad face"), abs=1e-4)
    assert done.value["prob"] == pytest.approx(math.exp(fit), abs=1e-6)
    info = done.info("fit")
    assert isinstance(info, ScoreInfo)
    assert (len(info.tokens), info.value) == (10, sum(info.logprobs))
    assert done.text == "the context " + letters(engine, "the context ", 4)


def test_a_score_of_values(engine: Engine) -> None:
    @ramet.program
    def scored(s: ramet.State) -> object:
        s += "a" + gen("x")
        return s.score("fit", "a" + s["x"] + "b")

    x = letters(engine, "a", 4)
    assert run(engine, scored).value == pytest.approx(logprob(engine, "a" + x, f"a{x}b"), abs=1e-4)


def test_a_score_is_a_number_in_the_body(engine: Engine) -> None:
    @ramet.program
    def best(s: ramet.State) -> object:
        s += "Which? "
        branches = s.fork(["bead", "cab", "egg"])
        branches.each(lambda branch, word: branch.score("merit", word))
        merits = list(branches["merit"])
        return max(range(3), key=lambda i: merits[i])

    merits = [logprob(engine, "Which? ", word) for word in ("bead", "cab", "egg")]
    assert run(engine, best).value == merits.index(max(merits))


def test_scores_that_follow_each_other_are_computed_together(engine: Engine) -> None:
    words = ["bead", "cab", "beg", "be", "bead", "a" * 30]

    @ramet.program
    def scored(s: ramet.State) -> object:
        s += "Which is best?: "
        values = [s.score(f"m{n}", word) for n, word in enumerate(words)]
        s += gen("x")
        return values

    done = run(engine, scored)
    assert engine.stats().steps == 1 + 4, "one for the scores, and one a token"
    merits = [logprob(engine, "Which is best?: ", word) for word in words]
    assert done.value == pytest.approx(merits, abs=1e-4)
    inner = {word[:end] for word in words for end in range(1, len(word))}
    assert done.usage.prompt_computed == 16 + len(inner) + 1, "and a token for gen"
    assert list(done.root.variables) == [f"m{n}" for n in range(len(words))] + ["x"]


def test_scores_wait_for_the_values_in_their_texts(engine: Engine) -> None:
    @ramet.program
    def scored(s: ramet.State) -> object:
        s += "Which? "
        (other,) = s.fork(1)
        other += "It is" + gen("y", 3)
        first = s.score("m0", "bead")
        second = s.score("m1", "b" + other["y"])
        return first, second, other["y"]

    first, second, y = run(engine, scored).value
    assert first == pytest.approx(logprob(engine, "Which? ", "bead"), abs=1e-4)
    assert second == pytest.approx(logprob(engine, "Which? ", "b" + y), abs=1e-4)


def test_scores_of_a_batch_are_computed_once(engine: Engine) -> None:
    @ramet.program
    def scored(s: ramet.State, item: int) -> object:
        s += "Which? "
        return [s.score(f"m{n}", word) for n, word in enumerate(["bead", "cab", "be"])]

    runs = engine.run_batch(scored, [{"item": n} for n in range(3)])
    first, *others = [getattr(done, "value", done) for done in runs]
    assert others == [first, first]
    assert engine.stats().tokens == len("Which? ") + 3 + 2


def test_a_score_that_does_not_fit_fails_alone(toy_engine: ToyEngine) -> None:
    engine = toy_engine(context=40)

    @ramet.program
    def scored(s: ramet.State) -> object:
        s += "Which? "
        return [s.score("short", "bead"), s.score("long", "a" * 50)]

    with pytest.raises(ContextLengthError) as caught:
        run(engine, scored)
    assert "57 tokens, but the model's context holds 40; shorten" in str(caught.value)
    assert caught.value.partial["short"] < 0


def test_a_score_of_a_value_that_is_empty(engine: Engine) -> None:
    @ramet.program
    def empty(s: ramet.State) -> object:
        s += "Which? " + ramet.gen("x", stop=list("abcdefgh "))
        return s.score("other", "bead"), s.score("fit", s["x"])

    with pytest.raises(PromptError, match="score fit: the text is empty"):
        run(engine, empty)


def test_a_score_needs_something_before_it(engine: Engine) -> None:
    @ramet.program
    def empty(s: ramet.State) -> None:
        s.score("fit", "a")

    with pytest.raises(PromptError, match="score needs some text before it"):
        run(engine, empty)

"""What searches hold and copy, and that everything comes back, whatever goes wrong."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

import ramet
from ramet.runtime import Event
from ramet.runtime.batch import Batch
from ramet.runtime.beam import BeamSearch
from ramet.runtime.errors import CapacityError, SamplingError, StepError
from tests.runtime.conftest import TOY_EOS, ToyEngine, all_back, random_logits, toy_model
from tests.runtime.running import run
from tests.runtime.searches import (
    PROMPT,
    check,
    expected,
    info,
    letters,
    params_of,
    search,
    tokens_of,
)

pytestmark = pytest.mark.usefixtures("one_thread", "no_ties")

# -- blocks


def test_w_writers_in_one_tail_make_one_copy_less(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at a block's edge none; nothing else is ever copied."""
    engine = toy_engine(block_size=4)
    turns: list[int] = []  # forks that will write
    advance = BeamSearch.advance

    def watched(self: BeamSearch, *given: Any) -> None:
        advance(self, *given)
        turns.append(len(self.live) - len({path.beam for path in self.live}))

    monkeypatch.setattr(BeamSearch, "advance", watched)
    steps: list[tuple[int, int]] = []  # where is written, copies
    inner = engine.core.runner.run

    def noted(batch: Batch) -> Tensor:
        steps.append((batch.entries[0].start, len(batch.copies)))
        return inner(batch)

    engine.core.runner.run = noted  # type: ignore[method-assign]
    params = params_of(engine, beams=6, max_tokens=16, ignore_eos=True)
    done = run(engine, search, text=PROMPT, params=params)

    wanted = [
        forks if place % 4 else 0 for forks, (place, _) in zip(turns, steps[1:], strict=False)
    ]
    assert [copies for _, copies in steps] == [0, *wanted]
    assert sum(wanted) > 20
    assert done.usage.copied_blocks == sum(wanted) == engine.stats().cache.copies


def test_losers_give_their_blocks_back_in_the_same_step(
    toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step there are the live beams and the hypotheses that are kept, and no more."""
    searches: list[BeamSearch] = []
    begin = BeamSearch.__init__

    def noted(self: BeamSearch, *given: Any, **options: Any) -> None:
        begin(self, *given, **options)
        searches.append(self)

    monkeypatch.setattr(BeamSearch, "__init__", noted)
    engine = toy_engine(block_size=2)
    params = params_of(engine, beams=5, max_tokens=20, stop_tokens=(65, 66), length_penalty=2.0)
    one = engine.start(search, {"text": PROMPT, "params": params})
    most = 0
    while not one.done:
        engine.round([one])
        engine.audit()
        (current,) = searches
        if not one.done:
            assert engine.stats().sequences == len(current.live) + len(current.finished)
            most = max(most, len(current.finished))
    assert most > 2
    assert all_back(engine.core)


def test_nothing_is_counted_twice(toy_engine: ToyEngine) -> None:
    engine = toy_engine(block_size=4)
    params = params_of(engine, ignore_eos=True, allowed_tokens=letters(engine)[:-1])
    usage = run(engine, search, text=PROMPT, params=params).usage
    assert (usage.prompt_computed, usage.prompt_reused) == (13, 0)
    assert usage.generated == 4 * 9
    again = run(engine, search, text=PROMPT, params=params).usage
    assert (again.prompt_computed, again.prompt_reused) == (1, 12)
    assert engine.stats().tokens == 13 + 4 * 8 + 1 + 4 * 8


def test_what_can_never_fit_is_refused_at_once(toy_engine: ToyEngine) -> None:
    """The prompt's three full blocks once, and of each beam the six behind them; one to copy."""
    params = params_of(toy_engine(), beams=5, max_tokens=20)
    engine = toy_engine(block_size=4, num_blocks=3 + 5 * 6)
    with pytest.raises(CapacityError, match=r"5 beams of 33 tokens .* need 34 blocks, but .* 33"):
        run(engine, search, text=PROMPT, params=params)
    assert engine.stats().steps == 0
    assert all_back(engine.core)
    engine = toy_engine(block_size=4, num_blocks=3 + 5 * 6 + 1)
    check(engine, run(engine, search, text=PROMPT, params=params), PROMPT, params)
    assert engine.stats().preemptions == 0


@pytest.mark.parametrize("max_sequences", [256, 5])
def test_more_searches_than_there_are_blocks_for(toy_engine: ToyEngine, max_sequences: int) -> None:
    """Each fits alone; they take turns, and find what they find with room."""

    @ramet.program
    def wide(s: ramet.State, params: Any) -> object:
        s += PROMPT
        branches = s.fork(6)
        for index, branch in enumerate(branches):
            branch += f" {index}"
            branch += ramet.gen("best", **params.to_dict())
        s += ramet.gen("own", max_tokens=20)
        return branches["best"], s["own"]

    engine = toy_engine(block_size=4, num_blocks=30, max_sequences=max_sequences)
    params = params_of(engine, max_tokens=20, ignore_eos=True)
    done = run(engine, wide, params=params)
    assert done.value == run(toy_engine(), wide, params=params).value
    assert max_sequences == 5 or done.usage.preemptions > 0
    for index, text in enumerate(done.value[0]):
        (best, *_) = expected(engine, f"{PROMPT} {index}", params)
        assert text == engine.tokenizer.decode([t for t in best.tokens if t != TOY_EOS])


# -- what goes wrong


@ramet.program
def everything(s: ramet.State, params: Any) -> object:
    s += PROMPT
    branches = s.branch(ramet.gen("x", **params.to_dict()))
    for branch in branches:
        branch += ramet.gen("y", **params.to_dict())
    s += ramet.gen("z", **params.to_dict())
    return branches["y"], s["z"]


@pytest.mark.parametrize("at", range(16))
def test_a_failing_step_gives_everything_back(toy_engine: ToyEngine, at: int) -> None:
    engine = toy_engine(block_size=4)
    params = params_of(engine, beams=3, max_tokens=8, ignore_eos=True)
    toy_model(engine.core).fail_at = {at}
    one = engine.start(everything, {"params": params})
    while not one.done:
        engine.round([one])
        engine.audit()
    assert isinstance(one.error, StepError)
    assert all_back(engine.core)
    again = run(engine, everything, params=params)
    assert again.value == run(toy_engine(), everything, params=params).value


@pytest.mark.parametrize("rounds", range(0, 18, 2))
def test_cancelling_gives_everything_back(toy_engine: ToyEngine, rounds: int) -> None:
    """At any moment; another search of the same steps does not notice."""
    engine = toy_engine(block_size=4)
    params = params_of(engine, beams=3, max_tokens=8, ignore_eos=True)
    one = engine.start(everything, {"params": params})
    other = engine.start(search, {"text": "other", "params": params})
    for _ in range(rounds):
        engine.round([one, other])
    one.abort()
    engine.audit()
    while not other.done:
        engine.round([other])
        engine.audit()
    check(engine, other.result(), "other", params)
    assert all_back(engine.core)


def test_keep_ends_a_search_in_its_middle(toy_engine: ToyEngine) -> None:
    engine = toy_engine(block_size=4)

    @ramet.program
    def kept(s: ramet.State) -> object:
        s += PROMPT
        long, short = s.fork(2)
        long += ramet.gen("x", beams=4, max_tokens=40, ignore_eos=True)
        short += "!" + ramet.gen("y", beams=2, max_tokens=2, ignore_eos=True)
        s.keep(short)
        s += ramet.gen("z", max_tokens=4, ignore_eos=True)
        return s["y"] + s["z"]

    done = run(engine, kept)
    assert engine.stats().steps < 12
    row = tokens_of(engine, PROMPT + "!") + list(info(done, "y").tokens)
    for token in info(done, "z").tokens:
        assert token == int(random_logits(list(zip(row, range(99), strict=False))).argmax())
        row.append(token)


def test_unsound_logits_end_the_search(toy_engine: ToyEngine) -> None:
    engine = toy_engine(block_size=4)
    params = params_of(engine, ignore_eos=True)
    forward = engine.core.model.forward

    def spoilt(*args: Any) -> Tensor:
        logits = forward(*args)
        if toy_model(engine.core).forwards == 4:
            logits[2, 7] = torch.nan
        return logits

    engine.core.model.forward = spoilt  # type: ignore[method-assign]
    with pytest.raises(SamplingError, match="NaN or infinity"):
        run(engine, search, text=PROMPT, params=params)
    assert all_back(engine.core)


def test_every_token_ruled_out(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    params = params_of(engine, allowed_tokens=(TOY_EOS,), min_tokens=2)
    with pytest.raises(SamplingError, match="ruled out"):
        run(engine, search, text=PROMPT, params=params)
    assert all_back(engine.core)


def test_a_listener_that_raises_ends_the_search(toy_engine: ToyEngine) -> None:
    def listener(event: Event) -> None:
        raise OSError("nobody listens")

    engine = toy_engine()
    arguments = {"text": PROMPT, "params": params_of(engine)}
    one = engine.start(search, arguments, on_event=listener)
    while not one.done:
        engine.round([one])
        engine.audit()
    assert isinstance(one.error, OSError)
    assert all_back(engine.core)


def test_an_empty_prompt_is_refused(toy_engine: ToyEngine) -> None:
    engine = toy_engine()

    @ramet.program
    def empty(s: ramet.State) -> None:
        s += ramet.gen("x", beams=2)

    with pytest.raises(ramet.RametError, match="no text to continue"):
        run(engine, empty)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_an_interrupt_gives_everything_back(toy_engine: ToyEngine, at: int) -> None:
    engine = toy_engine(block_size=4)
    forward = engine.core.model.forward

    def interrupted(*args: Any) -> Tensor:
        if toy_model(engine.core).forwards == at:
            raise KeyboardInterrupt
        return forward(*args)

    engine.core.model.forward = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        engine.run(search, text=PROMPT, params=params_of(engine, ignore_eos=True))
    engine.audit()
    engine.core.model.forward = forward  # type: ignore[method-assign]
    params = params_of(engine)
    check(engine, run(engine, search, text=PROMPT, params=params), PROMPT, params)


@ramet.program
def typed(s: ramet.State, text: str, params: Any) -> None:
    """In as many tokens as there are at most."""
    s += text
    s += ramet.gen("best", regex=f"[a-h ]{{1,{params.max_tokens}}}", **params.to_dict())


@pytest.mark.parametrize("seed", range(6))
def test_any_searches_in_any_company(toy_engine: ToyEngine, seed: int) -> None:
    """Random settings and requests, a pool that hardly holds the largest, some cancelled."""
    rng = random.Random(seed)
    settings = {
        "block_size": rng.choice([1, 3, 4]),
        "max_sequences": rng.choice([2, 7, 256]),
        "step_tokens": rng.choice([3, 20, 1024]),
        "sharing": rng.random() < 0.8,
    }
    largest = -(-(20 + 10) // settings["block_size"]) * 6 + 1
    engine, reference = toy_engine(num_blocks=largest, **settings), toy_engine()
    runs = []
    for _ in range(8):
        params = params_of(
            engine,
            beams=rng.randint(1, 6),
            max_tokens=rng.randint(1, 10),
            length_penalty=rng.choice([0.0, 1.0, 2.0]),
            early_stopping=rng.choice([True, False, "never"]),
            stop=rng.choice([(), ("a", "bc")]),
        )
        text = "".join(rng.choices("ab", k=rng.randint(1, 20)))
        arguments = {"text": text, "params": params}
        runs.append(
            rng.choice([(search, arguments), (typed, arguments), (everything, {"params": params})])
        )
    active = [engine.start(program, arguments) for program, arguments in runs]
    cancelled = rng.sample(active, 2)
    rounds = 0
    while not all(one.done for one in active):
        engine.round([one for one in active if not one.done])
        engine.audit()
        rounds += 1
        if rounds in (5, 9):
            cancelled[rounds // 9].abort()
        assert rounds < 3_000
    assert all_back(engine.core)
    for (program, arguments), one in zip(runs, active, strict=True):
        if one.error is None:
            assert one.result().value == run(reference, program, **arguments).value
        else:
            assert one in cancelled

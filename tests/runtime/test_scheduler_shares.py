"""Several scopes on one pool: who is let in, who gives way, and that everybody gets on."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import ramet
from ramet.params import SamplingParams
from ramet.runtime.batch import Batch
from ramet.runtime.core import EngineCore
from ramet.runtime.engine import Engine
from ramet.runtime.run import Run
from ramet.runtime.sequence import Generation, Task
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyCore, ToyEngine, all_back, drive, toy_text, toy_words

A, B, C = b"a", b"b", b"c"


def tokens(seed: int, count: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(256) for _ in range(count)]


def ignored(task: Task) -> None:
    """Nobody waits for it."""


@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """A generation, and what it has to come to."""

    task: Generation
    prompt: list[int]
    limit: int

    @property
    def right(self) -> bool:
        return self.task.done and self.task.drawn == toy_text(self.prompt, self.limit)


def ask(core: EngineCore, scope: bytes, prompt: list[int], limit: int) -> Asked:
    params = SamplingParams(max_tokens=limit, ignore_eos=True)
    task = core.generate(core.open(prompt, scope), params, key=0, on_done=ignored)
    return Asked(task, prompt, limit)


def blocks(core: EngineCore, scope: bytes) -> int:
    """What the running tasks of a scope hold, counted here."""
    tables = [task.sequence.table for task in core.scheduler.running]
    return len({id for table in tables if table.scope == scope for id in table.blocks})


def running(core: EngineCore, scope: bytes) -> list[int]:
    return [t.id for t in core.scheduler.running if t.sequence.table.scope == scope]


def end(core: EngineCore, *asked: Asked, steps: int = 5_000) -> None:
    drive(core, steps)
    assert all(each.right for each in asked)
    for sequence in list(core._sequences):
        core.close(sequence)
    assert all_back(core)


# -- a flood of one, a little of another


def test_a_flood_gives_way_to_who_keeps_to_its_share(toy_core: ToyCore) -> None:
    """A has all of the pool; B's run is let in at once and never gives way."""
    core = toy_core(num_blocks=64, block_size=4, sharing=False)
    flood = [ask(core, A, tokens(seed, 20), 100) for seed in range(10)]
    for _ in range(8):
        core.step()
    assert blocks(core, A) > 60
    short = ask(core, B, tokens(99, 60), 20)

    for _ in range(20):
        core.step()
        core.audit()

    assert short.right
    assert short.task.usage.preemptions == 0
    assert flood[0].task.usage.preemptions == 0
    assert core.scheduler.yielded > 0
    end(core, short, *flood)


def test_without_shares_the_same_run_waits(toy_core: ToyCore) -> None:
    """The test above has power."""
    core = toy_core(num_blocks=64, block_size=4, sharing=False, share=1.0)
    flood = [ask(core, A, tokens(seed, 20), 100) for seed in range(10)]
    for _ in range(8):
        core.step()
    short = ask(core, B, tokens(99, 60), 20)

    for _ in range(100):
        core.step()

    assert not short.task.done
    assert core.scheduler.yielded == 0
    end(core, short, *flood)


def test_who_would_be_over_its_share_is_let_in_after_the_others(toy_core: ToyCore) -> None:
    """And is, as soon as nobody else waits: nothing of the pool lies idle."""
    core = toy_core(num_blocks=24, block_size=4, sharing=False)
    flood = [ask(core, A, tokens(seed, 16), 1) for seed in range(4)]
    other = ask(core, B, tokens(9, 16), 1)
    seen: list[list[int]] = []
    run = core.runner.run

    def recorded(batch: Batch) -> object:
        seen.append([entry.task.id for entry in batch.entries])
        return run(batch)

    core.runner.run = recorded  # type: ignore[method-assign]
    core.step()
    assert seen == [[0, 1, 2, 4, 3]], "three are its half, then the other, then what is left"
    end(core, other, *flood)


def test_nobody_is_put_off_twice_for_a_smaller_one(toy_core: ToyCore) -> None:
    """Behind one that was put off, later ones of its scope wait, too, however small."""
    core = toy_core(num_blocks=24, block_size=4, step_tokens=64, sharing=False)
    first = ask(core, A, tokens(0, 32), 8)
    core.step()
    large, small = ask(core, A, tokens(1, 32), 4), ask(core, A, tokens(2, 4), 4)
    others = [ask(core, B, tokens(3 + seed, 16), 30) for seed in range(2)]

    core.step()
    assert running(core, B) == [3, 4]
    assert running(core, A) == [0]
    end(core, first, large, small, *others)


def test_a_flood_of_one_hides_nobody(toy_core: ToyCore) -> None:
    """More of A wait than the scheduler looks at; B is seen all the same."""
    core = toy_core(num_blocks=64, block_size=4, max_sequences=2, sharing=False)
    flood = [ask(core, A, tokens(seed, 4), 6) for seed in range(30)]
    core.step()
    short = ask(core, B, tokens(99, 4), 6)

    for _ in range(14):
        core.step()

    assert short.right
    assert sum(each.task.done for each in flood) == 2 + 1
    end(core, short, *flood)


def test_places_in_a_step_are_shared_as_blocks_are(toy_core: ToyCore) -> None:
    core = toy_core(num_blocks=256, block_size=4, max_sequences=8, sharing=False)
    flood = [ask(core, A, tokens(seed, 4), 5 + seed % 3) for seed in range(40)]
    others = [ask(core, B, tokens(99 + seed, 4), 5) for seed in range(12)]

    core.step()
    assert (len(running(core, A)), len(running(core, B))) == (4, 4)
    end(core, *others, *flood)


# -- more than a share


def test_one_that_is_larger_than_its_share_runs_alone(toy_core: ToyCore) -> None:
    core = toy_core(num_blocks=32, block_size=4, sharing=False)
    large = ask(core, A, tokens(0, 80), 30)
    end(core, large)
    assert large.task.usage.preemptions == 0


def test_one_that_is_larger_than_its_share_is_not_starved(toy_core: ToyCore) -> None:
    """Others come all the time; it has its turn, and they have theirs."""
    core = toy_core(num_blocks=32, block_size=4, sharing=False)
    others = [ask(core, B, tokens(seed, 20), 12) for seed in range(3)]
    large = ask(core, A, tokens(50, 90), 20)
    steps = 0
    while not large.task.done:
        others.append(ask(core, [B, C][steps % 2], tokens(100 + steps, 20), 12))
        core.step()
        core.audit()
        steps += 1
        assert steps < 120

    end(core, large, *others)


def test_nobody_gives_way_to_what_is_larger_than_a_share(toy_core: ToyCore) -> None:
    """It waits, though another scope is over its own, and is let in when that one is through."""
    core = toy_core(num_blocks=32, block_size=4, sharing=False)
    others = [ask(core, A, tokens(seed, 24), 12) for seed in range(3)]
    core.step()
    large = ask(core, B, tokens(9, 80), 4)
    assert blocks(core, A) > 16

    end(core, large, *others)

    assert core.scheduler.yielded == core.stats().preemptions == 0


def test_a_later_one_over_its_share_gives_way_to_the_first(toy_core: ToyCore) -> None:
    """By arrival, as ever: the first of all never loses its blocks, and goes on in every step."""
    core = toy_core(num_blocks=32, block_size=4, sharing=False)
    first = ask(core, B, tokens(0, 20), 90)
    large = ask(core, A, tokens(1, 80), 40)
    while not first.task.done:
        before = len(first.task.drawn)
        core.step()
        assert len(first.task.drawn) == before + 1

    assert first.task.usage.preemptions == 0
    assert large.task.usage.preemptions > 0
    end(core, first, large)


# -- one scope


def decisions(core: EngineCore, seed: int, scope: Callable[[int], bytes]) -> list[object]:
    """Every entry of every step under a random load."""
    rng = random.Random(seed)
    found: list[object] = []
    run = core.runner.run

    def recorded(batch: Batch) -> object:
        found.append([(e.task.id, e.start, e.count, e.copies) for e in batch.entries])
        return run(batch)

    core.runner.run = recorded  # type: ignore[method-assign]
    asked: list[Asked] = []
    for number in range(24):
        prompt = [*tokens(number % 5, rng.randrange(1, 30)), *tokens(number, rng.randrange(9))]
        asked.append(ask(core, scope(number), prompt, rng.randrange(1, 30)))
        for _ in range(rng.randrange(3)):
            core.step()
    end(core, *asked)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_one_scope_is_scheduled_as_without_shares(toy_core: ToyCore, seed: int) -> None:
    settings = {"num_blocks": 24, "block_size": 4, "step_tokens": 48}
    found = [
        decisions(toy_core(**settings, share=share), seed, lambda _: A)
        for share in (1.0, 0.5, 0.01)
    ]
    assert found[0] == found[1] == found[2]
    apart = [
        decisions(toy_core(**settings, share=share), seed, lambda n: [A, B][n % 5 == 0])
        for share in (1.0, 0.5)
    ]
    assert apart[0] != apart[1], "the load is one in which shares matter"


# -- random scopes and sizes


class Crowd:
    """Random arrivals of several scopes. Counts the steps in which a law of shares is broken, and
    those that a scope with work has to wait until some is done."""

    def __init__(self, core: EngineCore, seed: int, *, scopes: int, share: float) -> None:
        self.core = core
        self.rng = random.Random(seed)
        self.scopes = [A, B, C][:scopes]
        self.most = max(1, int(share * core.pool.num_blocks))
        self.asked: list[Asked] = []
        self.since: Counter[bytes] = Counter()
        self.longest = 0
        self.broken = 0
        self.schedule = core.scheduler.schedule
        core.scheduler.schedule = self.scheduled  # type: ignore[method-assign]

    def run(self, steps: int, large: float) -> None:
        """Arrivals in so many steps, each of at most such a part of the pool; then to the end."""
        weights = [self.rng.choice([1, 3, 12]) for _ in self.scopes]
        room = (int(large * self.core.pool.num_blocks) - 1) * self.core.pool.block_size
        for _ in range(steps):
            for _ in range(self.rng.choice([0, 0, 1, 3])):
                self.arrive(self.rng.choices(self.scopes, weights)[0], room)
            self.step()
        left = sum(len(each.prompt) + each.limit for each in self.asked)
        for _ in range(3 * left):
            if not self.core.busy:
                break
            self.step()
        end(self.core, *self.asked, steps=1)

    def arrive(self, scope: bytes, room: int) -> None:
        prompt = self.rng.randrange(1, max(2, room * 2 // 3))
        limit = self.rng.randrange(1, max(2, room - prompt))
        stem = tokens(self.rng.randrange(3), self.rng.randrange(prompt + 1))
        rest = tokens(len(self.asked), prompt - len(stem))
        self.asked.append(ask(self.core, scope, stem + rest, limit))

    def step(self) -> None:
        core = self.core
        computed, before = core.stats().tokens, self.got_on()
        core.step()
        core.audit()
        if core.busy:
            assert core.stats().tokens > computed, "nobody moved"
        after = self.got_on()
        left = {each.task.sequence.table.scope for each in self.asked if not each.task.done}
        for scope in self.scopes:
            waits = after[scope] == before[scope] and scope in left
            self.since[scope] = self.since[scope] + 1 if waits else 0
            self.longest = max(self.longest, self.since[scope])

    def got_on(self) -> Counter[bytes]:
        """What was computed for each scope, and its runs that are over."""
        found: Counter[bytes] = Counter()
        for each in self.asked:
            task = each.task
            made = task.usage.prompt_computed + len(task.drawn) + task.done
            found[task.sequence.table.scope] += made
        return found

    def scheduled(self) -> Batch | None:
        """A step is planned. While one waits whose scope would keep to its share with it, and
        nothing stands before it, no scope over its own has more than its first task."""
        batch = self.schedule()
        core = self.core
        if core.pool.sharing or core.scheduler._preempted:
            return batch  # it may wait for what somebody computes, or for the next step
        over = [scope for scope in self.scopes if blocks(core, scope) > self.most]
        waiting = [t for t in core.scheduler.waiting if t.sequence.table.scope not in over]
        if waiting and any(len(running(core, scope)) > 1 for scope in over):
            scope = waiting[0].sequence.table.scope
            needed = -(-waiting[0].end // core.pool.block_size)
            self.broken += blocks(core, scope) + needed <= self.most
        return batch


def crowd(toy_core: ToyCore, seed: int, *, share: float = 0.5, scopes: int, sharing: bool) -> Crowd:
    rng = random.Random(seed)
    core = toy_core(
        num_blocks=rng.choice([16, 24, 40]),
        block_size=rng.choice([1, 2, 4]),
        step_tokens=256,
        prefill_chunk=rng.choice([None, 7]),
        share=share,
        sharing=sharing,
    )
    found = Crowd(core, seed, scopes=scopes, share=0.5)
    found.run(40, large=0.5)
    return found


@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize(("scopes", "steps"), [(2, 3), (3, 40)])
def test_every_scope_gets_on(toy_core: ToyCore, scopes: int, steps: int, sharing: bool) -> None:
    """Sizes up to half of the pool. Of two scopes none waits for more than three steps; of three,
    two can have the pool between them until somebody ends."""
    for seed in range(5):
        found = crowd(toy_core, seed, scopes=scopes, sharing=sharing)
        assert (found.longest <= steps, found.broken) == (True, 0), seed


def test_without_shares_scopes_wait(toy_core: ToyCore) -> None:
    """The test above has power."""
    found = [crowd(toy_core, seed, share=1.0, scopes=2, sharing=False) for seed in range(3)]
    assert max(each.longest for each in found) > 10
    assert sum(each.broken for each in found) > 10


def whatever(toy_core: ToyCore, seed: int) -> None:
    """Sizes up to the whole pool; few places and tokens in a step."""
    rng = random.Random(seed)
    share = rng.choice([0.1, 0.5, 0.5, 0.9])
    core = toy_core(
        num_blocks=rng.choice([8, 16, 24]),
        block_size=rng.choice([1, 2, 4]),
        step_tokens=rng.choice([1, 5, 64]),
        max_sequences=rng.choice([1, 2, 3, 16]),
        sharing=rng.choice([True, False]),
        share=share,
    )
    Crowd(core, seed, scopes=rng.choice([2, 3]), share=share).run(20, large=0.9)


def test_everybody_ends_whatever_their_size(toy_core: ToyCore) -> None:
    for seed in range(8):
        whatever(toy_core, seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 1_100, 50))
def test_everybody_ends_at_length(toy_core: ToyCore, first: int) -> None:
    for seed in range(first, first + 50):
        whatever(toy_core, seed)
        found = crowd(toy_core, seed, scopes=2, sharing=seed % 2 == 0)
        assert (found.longest <= 3, found.broken) == (True, 0), seed


# -- programs


@ramet.program
def story(s: ramet.State, text: str, count: int) -> object:
    s += text
    s += ramet.gen("rest", max_tokens=count, ignore_eos=True)
    return s["rest"]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_short_run_ends_beside_a_flood_of_long_ones(
    toy_engine: ToyEngine, byte_tokenizer: Tokenizer, share: float
) -> None:
    """Programs of two scopes on one engine. Without shares the short one waits for long ones."""
    engine = toy_engine(num_blocks=48, block_size=4, share=share)
    flood = [(A, f"{number} was the first of many words", 110) for number in range(12)]
    runs = begun(engine, flood)
    for _ in range(20):
        engine.round(runs)
    runs |= begun(engine, [(B, "a little question, at some length, by another", 10)])
    short, steps = [*runs][-1], 0
    while not short.done:
        engine.round(runs)
        engine.audit()
        steps += 1

    assert steps <= 14 if share < 1 else steps > 40
    while not all(run.done for run in runs):
        engine.round(runs)
    for run, (text, count) in runs.items():
        assert run.result().value == toy_words(byte_tokenizer, text, count)
    assert all_back(engine.core)


def begun(engine: Engine, asked: list[tuple[bytes, str, int]]) -> dict[Run, tuple[str, int]]:
    """A run for each, with its text and how much is to follow."""
    return {
        engine.start(story, {"text": text, "count": count}, scope=scope): (text, count)
        for scope, text, count in asked
    }


@ramet.program
def searched(s: ramet.State, text: str, count: int) -> object:
    s += text
    s += ramet.gen("best", max_tokens=count, beams=4)
    return s["best"]


def test_a_search_ends_beside_others_as_it_does_alone(toy_engine: ToyEngine) -> None:
    """Its beams come and go with every token, and are let in anew each time they lost blocks."""
    texts = [f"{number} beams look for a text" for number in range(3)]
    alone = toy_engine(num_blocks=256, block_size=4)
    found = [alone.run(searched, text=text, count=12).value for text in texts]

    engine = toy_engine(num_blocks=40, block_size=4)
    runs = begun(engine, [(B, f"{number} of many", 60) for number in range(6)])
    searches = [
        engine.start(searched, {"text": text, "count": 12}, scope=scope)
        for text, scope in zip(texts, (A, A, B), strict=True)
    ]
    while not all(run.done for run in (*runs, *searches)):
        engine.round([*runs, *searches])
        engine.audit()

    assert [run.result().value for run in searches] == found
    assert engine.core.scheduler.yielded > 0
    assert all_back(engine.core)

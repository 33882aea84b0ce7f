"""Who runs in a step: budgets, order, preemption and waiting, one law at a time."""

import random

import pytest

from ramet.params import SamplingParams
from ramet.runtime.batch import Batch
from ramet.runtime.core import EngineCore
from ramet.runtime.sequence import Generation, Task
from tests.runtime.conftest import ToyCore, all_back, drive, toy_model, toy_text


def params(count: int) -> SamplingParams:
    return SamplingParams(max_tokens=count, ignore_eos=True)


def tokens(seed: int, count: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(256) for _ in range(count)]


def ignored(task: Task) -> None:
    """Nobody waits for it."""


def start(core: EngineCore, prompt: list[int], count: int) -> Generation:
    return core.generate(core.open(prompt), params(count), key=0, on_done=ignored)


class Recorded:
    """The batches that a core runs."""

    def __init__(self, core: EngineCore) -> None:
        self.batches: list[Batch] = []
        run = core.runner.run

        def recorded(batch: Batch) -> object:
            self.batches.append(batch)
            return run(batch)

        core.runner.run = recorded  # type: ignore[method-assign]

    @property
    def last(self) -> list[tuple[int, int]]:
        """Which task ran how many tokens."""
        return [(entry.task.id, entry.count) for entry in self.batches[-1].entries]


def test_a_step_takes_its_budget_and_no_more(toy_core: ToyCore) -> None:
    core = toy_core(step_tokens=20, sharing=False)
    seen = Recorded(core)
    tasks = [start(core, tokens(seed, 15), 3) for seed in range(4)]

    core.step()
    assert seen.last == [(0, 15), (1, 5)]
    core.step()
    assert seen.last == [(0, 1), (1, 10), (2, 9)]
    drive(core)

    assert max(batch.tokens for batch in seen.batches) == 20
    for seed, task in enumerate(tasks):
        assert task.drawn == toy_text(tokens(seed, 15), 3)


def test_a_chunk_is_the_most_of_one_prompt_in_a_step(toy_core: ToyCore) -> None:
    core = toy_core(step_tokens=20, prefill_chunk=6, sharing=False)
    seen = Recorded(core)
    for seed in range(2):
        start(core, tokens(seed, 15), 1)

    for wanted in ([(0, 6), (1, 6)], [(0, 6), (1, 6)], [(0, 3), (1, 3)]):
        core.step()
        assert seen.last == wanted


def test_no_more_sequences_than_allowed_run_at_once(toy_core: ToyCore) -> None:
    core = toy_core(max_sequences=3)
    seen = Recorded(core)
    tasks = [start(core, tokens(seed, 4), 2 + seed) for seed in range(8)]

    drive(core)

    assert max(len(batch.entries) for batch in seen.batches) == 3
    first_seen = list(dict.fromkeys(e.task.id for batch in seen.batches for e in batch.entries))
    assert first_seen == sorted(first_seen), "first come, first served"
    assert all(task.error is None for task in tasks)


def test_a_long_prefill_does_not_hold_up_those_that_decode(toy_core: ToyCore) -> None:
    """Every step gives each of them its token; the long prompt gets what is left."""
    core = toy_core(step_tokens=16, num_blocks=512, context=8_000)
    seen = Recorded(core)
    short = [start(core, tokens(seed, 3), 40) for seed in range(4)]
    core.step()
    start(core, tokens(99, 1_000), 1)

    for step in range(2, 30):
        core.step()
        assert [len(task.drawn) for task in short] == [step] * 4
        assert seen.last == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 12)]


def test_short_requests_behind_a_long_prompt_start_when_it_is_through(toy_core: ToyCore) -> None:
    """And with a chunk they start beside it."""
    for chunk, steps in ((None, 11), (64, 1)):
        core = toy_core(step_tokens=100, num_blocks=256, prefill_chunk=chunk)
        start(core, tokens(1, 1_000), 1)
        short = start(core, tokens(2, 5), 1)
        for _ in range(steps):
            assert not short.drawn
            core.step()
        assert short.drawn == toy_text(tokens(2, 5), 1)


def test_the_latest_arrival_gives_way_and_the_first_never_does(toy_core: ToyCore) -> None:
    core = toy_core(num_blocks=12, block_size=4, sharing=False)
    tasks = [start(core, tokens(seed, 8), 30) for seed in range(3)]

    drive(core)

    assert tasks[0].usage.preemptions == 0
    assert tasks[2].usage.preemptions > 0
    assert core.stats().preemptions == sum(task.usage.preemptions for task in tasks)
    for seed, task in enumerate(tasks):
        assert task.drawn == toy_text(tokens(seed, 8), 30)


def test_a_preempted_request_is_mostly_a_hit_when_it_comes_back(toy_core: ToyCore) -> None:
    core = toy_core(num_blocks=16, block_size=4)
    prompt = tokens(1, 20)
    first = start(core, tokens(0, 8), 40)
    second = start(core, prompt, 20)

    drive(core)

    assert second.usage.preemptions >= 1
    # What is found again after a preemption was computed before, and counts as that.
    assert second.usage.prompt_reused == 0
    assert (first.drawn, second.drawn) == (toy_text(tokens(0, 8), 40), toy_text(prompt, 20))
    recomputed = toy_model(core).tokens_run - (8 + 39 + 20 + 19)
    assert 0 <= recomputed <= 20


def test_idle_sequences_give_their_blocks_before_anybody_is_preempted(toy_core: ToyCore) -> None:
    core = toy_core(num_blocks=8, block_size=4)
    idle = core.open(tokens(0, 16))
    core.score(idle, 16, on_done=ignored)
    drive(core)
    assert core.stats().cache.held == 4

    task = start(core, tokens(1, 16), 12)
    drive(core)

    assert task.usage.preemptions == 0
    assert idle.table.blocks == []
    again = core.generate(idle, params(3), key=0, on_done=ignored)
    drive(core)
    assert again.drawn == toy_text(tokens(0, 16), 3), "it can always be computed again"


def test_the_idle_sequence_used_longest_ago_goes_first(toy_core: ToyCore) -> None:
    core = toy_core(num_blocks=10, block_size=4, sharing=False)
    sequences = [core.open(tokens(seed, 8)) for seed in range(3)]
    for sequence in sequences:
        core.score(sequence, 8, on_done=ignored)
    drive(core)
    core.generate(sequences[0], params(1), key=0, on_done=ignored)
    drive(core)

    start(core, tokens(9, 20), 4)
    drive(core)

    assert [bool(sequence.table.blocks) for sequence in sequences] == [True, False, True]


def test_a_waiting_request_lets_others_by_while_its_blocks_are_computed(toy_core: ToyCore) -> None:
    core = toy_core(step_tokens=40, prefill_chunk=16)
    seen = Recorded(core)
    prompt = tokens(0, 64)
    start(core, prompt, 1)
    start(core, [*prompt, 1], 1)
    start(core, tokens(1, 10), 1)

    core.step()
    assert seen.last == [(0, 16), (2, 10)]
    for _ in range(3):
        core.step()
        assert 1 not in dict(seen.last)
    core.step()
    assert seen.last == [(1, 1)]


def test_no_room_for_the_first_keeps_later_ones_back(toy_core: ToyCore) -> None:
    """Small requests do not overtake a big one for ever."""
    core = toy_core(num_blocks=8, block_size=4)
    start(core, tokens(0, 16), 8)
    core.step()
    big = start(core, tokens(1, 20), 4)
    small = start(core, tokens(2, 2), 1)

    core.step()
    assert not small.drawn
    drive(core)

    assert big.drawn == toy_text(tokens(1, 20), 4)
    assert small.drawn == toy_text(tokens(2, 2), 1)


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("spare", [0, 1, 2])
def test_a_pool_that_is_barely_big_enough_serves_everybody(
    toy_core: ToyCore, size: int, spare: int
) -> None:
    """Forks that share a tail, waiting ones that hold blocks, and one request's worth of room."""
    blocks = -(-(10 + 6) // size) + 1 + spare
    core = toy_core(num_blocks=blocks, block_size=size, step_tokens=7)
    parent = core.open(tokens(0, 7))
    core.score(parent, 7, on_done=ignored)
    drive(core)
    forks = [core.fork(parent) for _ in range(5)]
    for index, fork in enumerate(forks):
        fork.tokens += [index] * 3
    tasks = [core.generate(fork, params(6), key=0, on_done=ignored) for fork in forks]

    drive(core, steps=400)

    for index, task in enumerate(tasks):
        assert task.drawn == toy_text([*tokens(0, 7), *[index] * 3], 6)
    for sequence in (parent, *forks):
        core.close(sequence)
    assert all_back(core)


def test_a_score_that_is_preempted_in_its_middle_is_whole(toy_core: ToyCore) -> None:
    """What it had before comes again, and counts once."""
    core = toy_core(num_blocks=10, block_size=4, prefill_chunk=3, sharing=False)
    first = start(core, tokens(0, 8), 24)
    core.step()
    core.step()
    sequence = core.open(tokens(1, 20))
    score = core.score(sequence, 2, on_done=ignored)
    while not (score.logprobs and score.usage.preemptions):
        core.step()
        core.audit()
        if len(score.logprobs) > 4 and not score.usage.preemptions:
            core.scheduler._preempt(score)

    drive(core)

    alone = core.score(core.open(tokens(1, 20)), 2, on_done=ignored)
    drive(core)
    assert len(score.logprobs) == 18
    assert score.logprobs == pytest.approx(alone.logprobs)
    assert first.drawn == toy_text(tokens(0, 8), 24)


def test_a_sequence_that_is_computed_to_its_end_can_be_scored(toy_core: ToyCore) -> None:
    """Its last token has keys and values, though the scores need none of them."""
    core = toy_core(block_size=4)
    sequence = core.open(tokens(1, 18))
    core.score(sequence, 18, on_done=ignored)
    drive(core)
    assert sequence.table.length == 18

    score = core.score(sequence, 3, on_done=ignored)
    drive(core)

    assert len(score.logprobs) == 15
    assert sequence.table.length == 18

"""What is computed once: prefixes of prompts that arrive together, forks, and full hits.

All counts are exact, and every text is held against the toy model without a cache.
"""

import random
from collections.abc import Callable

import pytest

from ramet.params import SamplingParams
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import Aborted
from ramet.runtime.sequence import Generation, Sequence, Task
from tests.runtime.conftest import ToyCore, all_back, drive, toy_model, toy_text

ONE = SamplingParams(max_tokens=1, ignore_eos=True)


def ignored(task: Task) -> None:
    """Nobody waits for it."""


def tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(256) for _ in range(count)]


def crowd(
    prefix: int, suffix: int, count: int = 64, same: int = 0
) -> tuple[list[int], list[list[int]]]:
    """A prefix, and prompts that go on from it; their suffixes part after `same` tokens."""
    rng = random.Random(prefix * 1_000 + suffix)
    begin = tokens(rng, prefix)
    shared = tokens(rng, same)
    return begin, [[*begin, *shared, i, *tokens(rng, suffix - same - 1)] for i in range(count)]


def start(core: EngineCore, prompt: list[int], params: SamplingParams = ONE) -> Generation:
    return core.generate(core.open(prompt), params, key=0, on_done=ignored)


def close_all(core: EngineCore, *sequences: Sequence) -> None:
    for sequence in sequences:
        core.close(sequence)
    assert all_back(core)


@pytest.mark.parametrize("suffix", [1, 2, 7, 8, 9, 16, 40])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"step_tokens": 4096},
        {"step_tokens": 100},
        {"prefill_chunk": 31},  # the leader rests at 992: in the prefix, at a block's edge
        {"prefill_chunk": 333},
        {"block_size": 1, "num_blocks": 4096},
        {"block_size": 48, "prefill_chunk": 97},
        {"max_sequences": 7},
    ],
    ids=lambda settings: "-".join(f"{k}={v}" for k, v in settings.items()) or "default",
)
def test_a_prefix_that_arrives_together_is_computed_once(
    toy_core: ToyCore, suffix: int, settings: dict[str, int]
) -> None:
    core = toy_core(**{"num_blocks": 512, **settings})
    _, prompts = crowd(250, suffix)

    tasks = [start(core, prompt) for prompt in prompts]
    drive(core)

    assert toy_model(core).tokens_run == 250 + 64 * suffix
    for task, prompt in zip(tasks, prompts, strict=True):
        assert task.drawn == toy_text(prompt, 1)
        assert task.usage.prompt_computed + task.usage.prompt_reused == len(prompt)
    assert sum(task.usage.prompt_computed for task in tasks) == 250 + 64 * suffix
    close_all(core, *(task.sequence for task in tasks))


@pytest.mark.parametrize(("suffix", "chunk"), [(8, None), (20, None), (3, None), (8, 31)])
def test_64_prompts_with_a_prefix_of_1000_tokens(
    toy_core: ToyCore, suffix: int, chunk: int | None
) -> None:
    core = toy_core(num_blocks=512, prefill_chunk=chunk)
    _, prompts = crowd(1_000, suffix)
    tasks = [start(core, prompt) for prompt in prompts]

    drive(core)

    assert toy_model(core).tokens_run == 1_000 + 64 * suffix
    assert core.stats().tokens == 1_000 + 64 * suffix
    first, *others = sorted(tasks, key=lambda task: task.usage.prompt_reused)
    assert (first.usage.prompt_computed, first.usage.prompt_reused) == (1_000 + suffix, 0)
    for task in others:
        assert (task.usage.prompt_computed, task.usage.prompt_reused) == (suffix, 1_000)
    assert tasks[-1].drawn == toy_text(prompts[-1], 1)
    close_all(core, *(task.sequence for task in tasks))


def test_followers_of_a_short_prefix_start_at_once(toy_core: ToyCore) -> None:
    """Waiting a step to save less than a block is worth it only behind someone who runs already."""
    core = toy_core()
    _, prompts = crowd(10, 5, count=8)
    tasks = [start(core, prompt) for prompt in prompts]

    core.step()

    assert all(task.drawn for task in tasks)
    assert toy_model(core).tokens_run == 8 * 15


def test_a_request_behind_a_running_one_waits_a_step_for_part_of_a_block(
    toy_core: ToyCore,
) -> None:
    core = toy_core(prefill_chunk=4)
    leader = start(core, [9, 8, 7, 6, 5, 4, 3, 2, 1])
    core.step()  # 4 of 9
    follower = start(core, [9, 8, 7, 6, 5, 4, 0, 0, 0])

    drive(core)

    assert follower.usage.prompt_reused == 6
    assert toy_model(core).tokens_run == 9 + 3
    assert (leader.drawn, follower.drawn) == (
        toy_text([9, 8, 7, 6, 5, 4, 3, 2, 1], 1),
        toy_text([9, 8, 7, 6, 5, 4, 0, 0, 0], 1),
    )


def test_without_sharing_nobody_waits_for_anybody(toy_core: ToyCore) -> None:
    core = toy_core(sharing=False, num_blocks=512, step_tokens=4096)
    _, prompts = crowd(60, 4, count=16)
    tasks = [start(core, prompt) for prompt in prompts]

    core.step()

    assert all(task.drawn for task in tasks)
    assert toy_model(core).tokens_run == 16 * 64
    assert all(task.usage.prompt_reused == 0 for task in tasks)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_leader_that_is_aborted_leaves_what_it_computed(
    toy_core: ToyCore, steps: int, closed: bool
) -> None:
    core = toy_core(prefill_chunk=50)
    _, prompts = crowd(250, 8)
    tasks = [start(core, prompt) for prompt in prompts]
    leader = tasks[0]
    for _ in range(steps):
        core.step()
        core.audit()

    core.abort(leader)
    if closed:
        core.close(leader.sequence)
    core.audit()
    drive(core)

    # What is closed keeps whole blocks only: the beginning of one is computed again.
    lost = 50 * steps % 16 if closed else 0
    assert toy_model(core).tokens_run == 250 + 63 * 8 + lost
    assert isinstance(leader.error, Aborted)
    for task, prompt in zip(tasks[1:], prompts[1:], strict=True):
        assert (task.error, task.drawn) == (None, toy_text(prompt, 1))
    close_all(core, *(task.sequence for task in tasks))


def test_a_leader_that_is_preempted_leaves_what_it_computed(toy_core: ToyCore) -> None:
    """An earlier request takes blocks in the middle of the leader's prompt."""
    core = toy_core(num_blocks=24, prefill_chunk=16)
    begin, prompts = crowd(160, 8, count=4)
    long = start(core, list(range(100)), SamplingParams(max_tokens=160, ignore_eos=True))
    drive_until(core, lambda: len(long.drawn) >= 60)
    tasks = [start(core, prompt) for prompt in prompts]
    drive_until(core, lambda: tasks[0].cursor >= 48)
    core.scheduler._preempt(tasks[0])
    core.audit()

    drive(core)

    assert tasks[0].usage.preemptions >= 1
    for task, prompt in zip(tasks, prompts, strict=True):
        assert task.drawn == toy_text(prompt, 1)
        assert task.usage.prompt_computed + task.usage.prompt_reused >= len(prompt)
    # Whole blocks stay findable: nothing of the prefix was computed twice.
    assert sum(task.usage.prompt_computed for task in tasks) == len(begin) + 4 * 8
    assert long.drawn == toy_text(list(range(100)), 160)
    close_all(core, long.sequence, *(task.sequence for task in tasks))


def drive_until(core: EngineCore, reached: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if reached():
            return
        core.step()
        core.audit()
    raise AssertionError("never reached")


@pytest.mark.parametrize("length", [100, 112, 113, 1])
@pytest.mark.parametrize("parent_stays", [False, True])
def test_fork_does_no_tensor_work_and_writers_copy_what_is_shared(
    toy_core: ToyCore, length: int, parent_stays: bool
) -> None:
    """8 writers that part in one block: 7 copies, or 8 where the parent keeps it too."""
    core = toy_core()
    prompt = tokens(random.Random(length), length)
    parent = core.open(prompt)
    core.score(parent, length, on_done=ignored)
    drive(core)
    model = toy_model(core)
    before = (model.forwards, model.tokens_run, core.stats())

    children = [core.fork(parent) for _ in range(8)]
    core.audit()

    assert (model.forwards, model.tokens_run, core.stats().cache) == (*before[:2], before[2].cache)
    if not parent_stays:
        core.close(parent)
    for index, child in enumerate(children):
        child.tokens += [index, index]
    tasks = [core.generate(child, ONE, key=0, on_done=ignored) for child in children]
    drive(core)

    inside = length % 16 != 0
    copies = (7 + parent_stays) * inside
    assert core.stats().cache.copies == copies
    assert sum(task.usage.copied_blocks for task in tasks) == copies
    assert model.tokens_run == before[1] + 8 * 2
    for index, task in enumerate(tasks):
        assert task.drawn == toy_text([*prompt, index, index], 1)
        assert (task.usage.prompt_computed, task.usage.prompt_reused) == (2, length)
    if parent_stays:
        assert goes_on(core, parent) == toy_text(prompt, 1)
    close_all(core, parent, *children)


def goes_on(core: EngineCore, sequence: Sequence) -> list[int]:
    """What the sequence goes on with: it still is what it was."""
    task = core.generate(sequence, ONE, key=0, on_done=ignored)
    drive(core)
    return task.drawn


def test_a_fork_of_a_fork_costs_nothing_either(toy_core: ToyCore) -> None:
    core = toy_core(num_blocks=8)
    root = core.open(tokens(random.Random(3), 40))
    core.score(root, 40, on_done=ignored)
    drive(core)
    run = toy_model(core).tokens_run

    leaves = [root]
    for _ in range(6):
        leaves = [core.fork(leaf) for leaf in leaves for _ in range(2)]
        core.audit()

    assert toy_model(core).tokens_run == run
    assert core.stats().cache.held == 3
    tasks = [core.generate(leaf, ONE, key=0, on_done=ignored) for leaf in leaves]
    drive(core)
    assert {tuple(task.drawn) for task in tasks} == {tuple(toy_text(root.tokens, 1))}
    assert toy_model(core).tokens_run == run + 64
    close_all(core, *list(core._sequences))


@pytest.mark.parametrize("length", [1, 15, 16, 17, 64, 100])
def test_a_full_hit_leaves_one_token_to_compute_and_writes_nothing(
    toy_core: ToyCore, length: int
) -> None:
    core = toy_core()
    prompt = tokens(random.Random(length), length)
    first = start(core, prompt)
    drive(core)
    model = toy_model(core)
    run, held = model.tokens_run, core.runner.backend.cache.data.clone()
    before = core.stats().cache

    again = start(core, prompt)
    drive(core)

    assert again.drawn == first.drawn == toy_text(prompt, 1)
    assert (again.usage.prompt_computed, again.usage.prompt_reused) == (1, length - 1)
    assert model.tokens_run == run + 1
    assert (core.runner.backend.cache.data == held).all()
    after = core.stats().cache
    assert (after.held, after.copies, after.published) == (
        before.held,
        before.copies,
        before.published,
    )
    close_all(core, first.sequence, again.sequence)


def test_what_is_closed_is_still_found_in_whole_blocks(toy_core: ToyCore) -> None:
    core = toy_core()
    prompt = tokens(random.Random(5), 100)
    first = start(core, prompt)
    drive(core)
    core.close(first.sequence)
    assert all_back(core)

    again = start(core, prompt)
    drive(core)

    assert (again.usage.prompt_computed, again.usage.prompt_reused) == (4, 96)
    assert again.drawn == first.drawn
    close_all(core, again.sequence)


def test_another_scope_finds_nothing(toy_core: ToyCore) -> None:
    core = toy_core()
    prompt = tokens(random.Random(6), 40)
    tasks = [
        core.generate(core.open(prompt, scope), ONE, key=0, on_done=ignored)
        for scope in (b"one", b"other", b"one")
    ]

    drive(core)

    assert [task.usage.prompt_reused for task in tasks][:2] == [0, 0]
    assert toy_model(core).tokens_run < 3 * 40
    close_all(core, *(task.sequence for task in tasks))


def test_another_scope_waits_for_nothing(toy_core: ToyCore) -> None:
    """It could not use what is computed; and how long it takes must not tell what others run."""
    core = toy_core(prefill_chunk=4)
    core.generate(core.open(list(range(12)), b"one"), ONE, key=0, on_done=ignored)
    core.step()
    other = core.generate(core.open(list(range(12)), b"other"), ONE, key=0, on_done=ignored)
    core.step()
    assert other.cursor == 4


def test_scores_of_a_shared_context_compute_it_once(toy_core: ToyCore) -> None:
    core = toy_core()
    prompt = tokens(random.Random(7), 50)
    parent = core.open(prompt)
    core.score(parent, 50, on_done=ignored)
    drive(core)
    run = toy_model(core).tokens_run
    forks = [core.fork(parent) for _ in range(3)]
    for index, fork in enumerate(forks):
        fork.tokens += [index, index + 1, index + 2]

    tasks = [core.score(fork, 50, on_done=ignored) for fork in forks]
    drive(core)

    # The context's last token gives the first score, and an option's last token is not run.
    assert toy_model(core).tokens_run == run + 3 * 3
    assert [len(task.logprobs) for task in tasks] == [3, 3, 3]
    assert [task.usage.prompt_reused for task in tasks] == [49, 49, 49]
    close_all(core, parent, *forks)

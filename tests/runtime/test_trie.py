"""Continuations as a trie: each distinct inner token is a row, each distinct token an edge."""

import random
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import Aborted, CapacityError, ContextLengthError, PromptError, StepError
from ramet.runtime.models import load_model
from ramet.runtime.sequence import Task, TrieScoring
from ramet.runtime.tokenizer import Tokenizer
from ramet.runtime.trie import CONTEXT, Trie, tries
from tests.runtime.conftest import ToyCore, all_back, drive, toy_logits, toy_model, toy_text
from tests.runtime.greedy import submit
from tests.runtime.models.tiny import FAMILIES, VOCAB, WINDOW, saved, transformers_logits

SETS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=30)


@given(SETS, st.integers(0, 12))
def test_tries_hold_every_continuation_once(sets: list[list[int]], most: int) -> None:
    made = tries(sets, most)
    assert sorted(number for trie in made for number in trie.paths) == [*range(len(sets))]
    for trie in made:
        mine = [sets[number] for number in trie.paths]
        assert len(trie.rows) == len({tuple(s[:end]) for s in mine for end in range(1, len(s))})
        assert len(trie.edges) == len(
            {tuple(s[:end]) for s in mine for end in range(1, len(s) + 1)}
        )
        assert len(trie.rows) <= most or len(mine) == 1
        assert trie.depth == max(map(len, mine))
        steps = {number: step for step, number in trie.edges.items()}
        for number, path in trie.paths.items():
            rows, tokens = zip(*(steps[edge] for edge in path), strict=True)
            assert [*tokens] == sets[number]
            assert rows[0] == CONTEXT
            for before, row, token in zip(rows, rows[1:], tokens, strict=False):
                assert (trie.parents[row], trie.rows[row]) == (before, token)


@given(SETS)
def test_what_a_row_sees(sets: list[list[int]]) -> None:
    (trie,) = tries(sets, 10_000)
    for row, seen in enumerate(trie.ancestors):
        path = []
        while row != CONTEXT:
            path.append(row)
            assert trie.parents[row] < row
            row = trie.parents[row]
        assert sorted(path) == seen.nonzero()[0].tolist()


def test_as_few_tries_as_that_take() -> None:
    alike = [[1, 2, 3, last] for last in range(100)]
    assert len(tries(alike, 3)) == 1
    assert len(tries([[first, 0] for first in range(100)], 10)) == 10
    assert len(tries([[first] for first in range(100)], 0)) == 1


# -- on the core


def score(core: EngineCore, context: list[int], options: list[list[int]]) -> TrieScoring:
    (trie,) = tries(options, 10_000)
    return core.score_trie(core.open(context), trie, on_done=lambda task: None)


def found(task: TrieScoring) -> list[list[float]]:
    paths = sorted(task.trie.paths.items())
    return [[task.logprobs[edge] for edge in path] for _, path in paths]


def by_toy(context: list[int], option: list[int]) -> list[float]:
    whole = [*context, *option]
    return [
        float(toy_logits(list(zip(whole[:at], range(at), strict=True))).log_softmax(-1)[whole[at]])
        for at in range(len(context), len(whole))
    ]


def random_options(rng: random.Random, count: int, letters: int = 3) -> list[list[int]]:
    return [[rng.randrange(letters) for _ in range(rng.randrange(1, 7))] for _ in range(count)]


@pytest.mark.parametrize("block_size", [1, 3, 16])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 40])
def test_every_option_scores_what_it_scores_alone(
    toy_core: ToyCore, block_size: int, length: int
) -> None:
    rng = random.Random(length)
    context = [rng.randrange(200) for _ in range(length)]
    options = random_options(rng, 20)
    core = toy_core(block_size=block_size)
    task = score(core, context, options)
    assert drive(core) == 1, "context and options run in one step"
    for got, option in zip(found(task), options, strict=True):
        assert got == pytest.approx(by_toy(context, option), abs=1e-4)
    assert toy_model(core).tokens_run == length + len(task.trie.rows) == task.usage.prompt_computed
    assert task.sequence.tokens == context
    assert task.sequence.table.length == length
    core.close(task.sequence)
    assert all_back(core)


def test_nothing_of_an_option_can_be_found_afterwards(toy_core: ToyCore) -> None:
    core = toy_core(block_size=2)
    context = [*range(10)]
    task = score(core, context, [[1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 9, 9]])
    drive(core)
    again = core.open([*context, 1, 2, 3, 4, 5, 6])
    assert again.table.adopt(again.tokens) == len(context)
    core.close(again)
    core.close(task.sequence)


def test_scored_again_it_only_runs_the_last_token_and_the_rows(toy_core: ToyCore) -> None:
    core = toy_core(block_size=4)
    options = [[1, 2, 3], [1, 2, 4], [7]]
    first = score(core, [*range(30)], options)
    drive(core)
    second = score(core, [*range(30)], options)
    drive(core)
    assert found(first) == found(second)
    assert second.usage.prompt_computed == 1 + 2
    assert second.usage.copied_blocks == 1, "the tail that the first still holds"


def test_the_first_tokens_of_an_empty_context_score_nothing(toy_core: ToyCore) -> None:
    core = toy_core(block_size=2)
    options = [[5, 6, 7], [5, 6, 8], [9, 1], [9]]
    task = score(core, [], options)
    drive(core)
    for got, option in zip(found(task), options, strict=True):
        assert got == pytest.approx([0.0, *by_toy(option[:1], option[1:])], abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"step_tokens": 16, "prefill_chunk": 5},
        {"step_tokens": 13, "block_size": 3},
        {"step_tokens": 12, "max_sequences": 3},
        {
            "num_blocks": 10,
            "block_size": 4,
            "step_tokens": 15,
            "prefill_chunk": 4,
        },  # no room for all: some are preempted
        {"sharing": False},
    ],
)
def test_company_chunks_and_preemption_change_nothing(
    toy_core: ToyCore, settings: dict[str, Any]
) -> None:
    rng = random.Random(7)
    core = toy_core(**settings)
    beginning = [rng.randrange(200) for _ in range(9)]
    company = [submit(core, core.open([*beginning[:5], n]), 24) for n in range(3)]
    works: list[tuple[TrieScoring, list[int], list[list[int]]]] = []
    for count in range(8):
        context = [*beginning, *(rng.randrange(200) for _ in range(count))]
        options = random_options(rng, 3, letters=2)
        works.append((score(core, context, options), context, options))
    drive(core)
    for task, context, options in works:
        assert task.error is None
        for got, option in zip(found(task), options, strict=True):
            assert got == pytest.approx(by_toy(context, option), abs=1e-4)
        core.close(task.sequence)
    for task in company:
        assert task.drawn == toy_text(task.sequence.tokens[:6], 24)
        core.close(task.sequence)
    assert all_back(core)
    # Where there is no room for all, some are preempted.
    scarce = settings.get("num_blocks") == 10
    assert any(task.usage.preemptions for task, _, _ in works) == scarce


def test_a_trie_waits_for_a_step_with_room(toy_core: ToyCore) -> None:
    """It is never cut in two: the rows of a step see each other only."""
    core = toy_core(step_tokens=10)
    first = score(core, [*range(9)], [[1, 2, 3, 4, 5, 6], [1, 2, 9, 9, 9]])
    assert len(first.trie.rows) == 7
    assert drive(core) == 2
    assert found(first)[0] == pytest.approx(by_toy([*range(9)], [1, 2, 3, 4, 5, 6]), abs=1e-4)


def test_a_trie_does_not_wait_for_those_that_draw(toy_core: ToyCore) -> None:
    """However many there are: as many rows as a trie may have are left to it."""
    core = toy_core(step_tokens=40, max_sequences=20, num_blocks=512)
    drawing = [submit(core, core.open([n, 1]), 60) for n in range(30)]
    for _ in range(5):
        core.step()
    options = [[n, 1, 2] for n in range(10)]
    sequence = core.open([*range(50)])
    assert core.trie_rows(sequence) == 20
    task = score(core, [*range(50)], options)
    for _ in range(80):
        core.step()
    assert task.done, "though ten of those that draw came before it"
    assert any(not each.done for each in drawing)


def test_refusals(toy_core: ToyCore) -> None:
    core = toy_core(context=20, num_blocks=2, block_size=4)
    with pytest.raises(ContextLengthError):
        score(core, [0] * 17, [[1, 2, 3, 4]])
    with pytest.raises(CapacityError):
        score(core, [0] * 3, [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    with pytest.raises(PromptError, match="not in the vocabulary"):
        score(core, [0], [[1, 99_999]])


def test_a_step_that_fails_and_a_task_that_is_cancelled_leave_nothing(toy_core: ToyCore) -> None:
    core = toy_core(block_size=2)
    toy_model(core).fail_at = {0}
    ended: list[Task] = []
    (trie,) = tries([[1, 2, 3], [1, 5]], 100)
    failed = core.score_trie(core.open([1, 2, 3]), trie, on_done=ended.append)
    drive(core)
    assert ended == [failed]
    assert isinstance(failed.error, StepError)
    core.audit()
    cancelled = core.score_trie(core.open([1, 2, 3]), trie, on_done=ended.append)
    core.abort(cancelled)
    drive(core)
    assert isinstance(cancelled.error, Aborted)
    for task in (failed, cancelled):
        core.close(task.sequence)
    assert all_back(core)


# -- on real attention


def by_transformers(folder: Any, context: list[int], option: list[int]) -> list[float]:
    logits: Tensor = transformers_logits(folder, [*context, *option[:-1]]).log_softmax(-1)
    rows = range(len(context) - 1, len(context) - 1 + len(option))
    return [float(logits[row, token]) for row, token in zip(rows, option, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_transformers(family: str, byte_tokenizer: Tokenizer) -> None:
    """Also where layers see a window only, which ends inside the options, or before them."""
    torch.set_num_threads(1)
    folder = saved(family)
    model = load_model(str(folder), dtype="float32", cache=folder)[0]
    core = EngineCore(model, byte_tokenizer, EngineConfig(num_blocks=200))
    rng = random.Random(5)
    shared = [rng.randrange(VOCAB) for _ in range(40)]
    works: list[tuple[TrieScoring, list[int], list[list[int]]]] = []
    for length in (1, WINDOW - 1, WINDOW, 40, 41, 50):
        context = [*shared[:length], *(rng.randrange(VOCAB) for _ in range(length - 40))]
        options = random_options(rng, 8, letters=2)
        options.append([rng.randrange(VOCAB) for _ in range(WINDOW + 4)])
        works.append((score(core, context, options), context, options))
    drive(core)
    for task, context, options in works:
        for got, option in zip(found(task), options, strict=True):
            assert got == pytest.approx(by_transformers(folder, context, option), abs=1e-4)


def test_ancestors_of_nothing() -> None:
    trie = Trie()
    trie.add(0, [4])
    assert trie.ancestors.shape == (0, 0)

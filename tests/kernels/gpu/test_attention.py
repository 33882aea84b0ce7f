"""Attention on the GPU is what the reference gives, whatever the batch."""

import random
from dataclasses import replace

import pytest
import torch

from ramet.kernels import KVCache, KVLayout, Tree, backend_for
from ramet.kernels.gpu.backend import GpuBackend
from ramet.kernels.gpu.plan import Reader
from ramet.kernels.gpu.runs import Tuning
from tests.kernels.gpu.worlds import (
    PLAIN,
    SHARE_ALL,
    SPLIT_ALL,
    Trial,
    backend_of,
    check,
    compare,
    fresh_seed,
    made_of,
    noted,
    outputs,
    random_trial,
)
from tests.kernels.steps import Case, ancestors_of

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("again", range(3))
def test_random_steps(again: int, dtype: torch.dtype, device: torch.device) -> None:
    check(random_trial(fresh_seed(), dtype), device)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("again", range(100))
def test_many_random_steps(again: int, dtype: torch.dtype, device: torch.device) -> None:
    check(random_trial(fresh_seed(), dtype), device)
    check(replace(random_trial(fresh_seed(), dtype), float8=True), device)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_2000_random_shapes(part: int, device: torch.device) -> None:
    for _ in range(100):
        trial = random_trial(fresh_seed(), random.choice(DTYPES), large=True)
        check(replace(trial, float8=random.random() < 0.2), device)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("block", [1, 5, 16])
def test_edges_of_blocks(block: int, window: int | None, device: torch.device) -> None:
    """Decoding and prefilling at the last token of a block, and beside it."""
    edges = [max(1, 2 * block + d) for d in (-1, 0, 1)]
    lengths = [(context, 1) for context in edges] + [(context, context) for context in edges]
    case = Case(lengths, block=block, kv_heads=1, layers=1, seed=fresh_seed())
    check(Trial(case, window=window), device)


@pytest.mark.parametrize("dim", [16, 24, 64, 80])
@pytest.mark.parametrize(("kv_heads", "groups"), [(1, 1), (1, 8), (2, 3)])
def test_heads(kv_heads: int, groups: int, dim: int, device: torch.device) -> None:
    """Multi-query, multi-head and grouped; every length of a head."""
    lengths = [(20, 1), (13, 4)]
    case = Case(lengths, kv_heads=kv_heads, groups=groups, dim=dim, layers=1, seed=fresh_seed())
    check(Trial(case), device)


@pytest.mark.parametrize("float8", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype: torch.dtype, float8: bool, device: torch.device) -> None:
    """float8 in the cache is exact: the reference holds the same numbers, rounded alike."""
    case = Case([(40, 1), (33, 5)], dim=16, dtype=dtype, layers=1, seed=fresh_seed())
    check(Trial(case, float8=float8, tuning=SPLIT_ALL), device)


def test_what_float8_cannot_hold_is_its_largest_number(device: torch.device) -> None:
    case = Case([(20, 5)], dim=16, layers=1, seed=fresh_seed())
    trial = Trial(case, float8=True)
    made = made_of(trial)
    made.key[0, 3, 0, 2], made.value[0, 3, 0, 2] = 1e4, -1e4
    ours = backend_of(made, trial, device)
    compare(made, ours, trial)
    written = ours.cache.data[0, :, 0, int(made.step.slots[3]), 2].float().tolist()
    assert written == [448.0, -448.0]


@pytest.mark.parametrize("softcap", [0.5, 30.0, 1e5])
@pytest.mark.parametrize("sharpness", [0.01, 1.0, 10.0])
def test_a_soft_cap_far_from_the_scores(
    softcap: float, sharpness: float, device: torch.device
) -> None:
    """Small scores keep their precision under a large cap."""
    case = Case([(40, 9)], kv_heads=1, dim=16, layers=1, sharpness=sharpness, seed=fresh_seed())
    check(Trial(case, softcap=softcap), device)


@pytest.mark.parametrize("window", [None, 1, 7])
def test_trees(window: int | None, device: torch.device) -> None:
    """More than 32 tokens, and than a program takes, behind what others share, too."""
    lengths = [(90, 3), (80, 40), (70, 1)]
    case = Case(lengths, kv_heads=1, shared=2, layers=1, seed=fresh_seed())
    trial = Trial(case, window=window, tuning=SHARE_ALL)
    made = made_of(trial)
    rng = random.Random(case.seed)
    parents = [[rng.randrange(-1, row) for row in range(rows)] for rows in (3, 37)]
    trees = [Tree(sequence, ancestors_of(each)) for sequence, each in enumerate(parents)]
    made.step = replace(made.step, trees=trees)
    with noted(trial):
        compare(made, backend_of(made, trial, device), trial)


FOREST = Case([(66, 1), (70, 1), (70, 3), (40, 1), (44, 1), (30, 1)], block=4, kv_heads=1, layers=1)


PARTS = {"plain": (PLAIN, 0), "shared": (SHARE_ALL, 30), "split": (SPLIT_ALL, 41)}


@pytest.mark.parametrize(("dtype", "softcap"), [(torch.float32, 5.0), (torch.bfloat16, None)])
@pytest.mark.parametrize("how", PARTS)
def test_a_forest(
    how: str, dtype: torch.dtype, softcap: float | None, device: torch.device
) -> None:
    """All begin alike, five go on alike, three of them further, two with one prompt's rest."""
    tuning, parts = PARTS[how]
    case = replace(FOREST, dtype=dtype, seed=fresh_seed())
    trial = Trial(case, tuning=tuning, softcap=softcap)
    made = made_of(trial)
    tables = made.step.block_tables
    for rows, depth in ((range(6), 5), (range(5), 8), (range(3), 12), (range(2), 16)):
        tables[list(rows), :depth] = tables[0, :depth]
    ours = backend_of(made, trial, device)
    with noted(trial):
        compare(made, ours, trial)
    assert ours.plan(made.step).room.partials == parts


def test_queries_and_keys_that_are_parts_of_other_tensors(device: torch.device) -> None:
    """Queries, keys and values are mostly slices of one product."""
    trial = Trial(Case([(20, 3), (9, 1)], dim=16, layers=1, seed=fresh_seed()))
    made = made_of(trial)
    heads, kv_heads = 4, 2
    whole = torch.cat([made.query, made.key, made.value], dim=2)
    made.query, made.key, made.value = whole.split((heads, kv_heads, kv_heads), dim=2)
    assert not made.query[0].is_contiguous()
    with noted(trial):
        compare(made, backend_of(made, trial, device), trial)


@pytest.mark.parametrize("poison", [-1, None], ids=["minus one", "a free block"])
def test_unused_entries_are_not_read(poison: int | None, device: torch.device) -> None:
    """A free block is NaN, and NaN times nothing is NaN."""
    trial = Trial(Case([(17, 1), (33, 6), (5, 1)], dim=16, layers=1, seed=fresh_seed()))
    made = made_of(trial)
    tables = made.step.block_tables
    free = set(range(made.reference.cache.layout.num_blocks)) - set(tables.flatten().tolist())
    tables[tables < 0] = min(free) if poison is None else poison
    with noted(trial):
        compare(made, backend_of(made, trial, device), trial)


def test_an_empty_step(device: torch.device) -> None:
    for window in (None, 4):
        check(Trial(Case([]), window=window), device)


def test_a_sequence_without_tokens_in_the_step(device: torch.device) -> None:
    check(Trial(Case([(20, 0), (20, 3), (5, 0), (9, 1)], layers=1, seed=fresh_seed())), device)


def test_scores_at_the_end_of_float16(device: torch.device) -> None:
    """The largest is subtracted before the exponential."""
    case = Case([(30, 5)], dtype=torch.float16, sharpness=300.0, layers=1, seed=fresh_seed())
    check(Trial(case), device)


# -- plans


def test_layers_of_two_kinds_share_a_buffer(device: torch.device) -> None:
    """What layers have once asked for is planned for with the next step."""
    trial = Trial(Case([(40, 3)], dim=16, layers=1, seed=fresh_seed()))
    made = made_of(trial)
    ours = backend_of(made, trial, device)
    assert ours.plan(made.step).readers == ()
    for window in (None, 7):
        compare(made, ours, replace(trial, window=window))
    assert ours.plan(made.step).readers == (Reader(None, 2), Reader(7, 2))


def test_a_plan_is_filled_again(device: torch.device) -> None:
    """Other steps, the same tensors and launches: what a captured graph needs."""
    small = Case([(20, 1), (9, 1)], kv_heads=1, dim=16, layers=1, seed=fresh_seed())
    trial = Trial(small, tuning=SHARE_ALL)
    made = made_of(trial)
    ours = backend_of(made, trial, device)
    outputs(made, ours)
    plan = ours.plan(made.step, ours.room_for_decoding(4, 16))
    kept = [plan.slots, *vars_of(plan.cuts[Reader(None, 2)].work)]
    places = [tensor.data_ptr() for tensor in kept]
    for lengths in ([(20, 1), (9, 1)], [(33, 1)] * 3, [(50, 1)]):
        case = replace(small, lengths=lengths, shared=2)
        other = made_of(replace(trial, case=case))
        theirs = backend_of(other, trial, device)
        ours.cache = theirs.cache
        ours.refill(plan, other.step)
        tokens = len(lengths)
        ours.write(plan, 0, other.key[0].to(device), other.value[0].to(device))
        got = ours.attend(plan, 0, other.query[0].to(device), scale=other.scale)
        other.agree([got[:tokens].cpu()], other.run(other.reference))
    assert places == [tensor.data_ptr() for tensor in kept]


def vars_of(work: object) -> list[torch.Tensor]:
    fields = (getattr(work, name) for name in work.__dataclass_fields__)  # type: ignore[attr-defined]
    return [value for value in fields if isinstance(value, torch.Tensor)]


def test_a_step_that_does_not_fit_is_refused(device: torch.device) -> None:
    trial = Trial(Case([(20, 1), (9, 1)], kv_heads=1, dim=16, layers=1, seed=fresh_seed()))
    made = made_of(trial)
    ours = backend_of(made, trial, device)
    early = ours.plan(made.step)
    outputs(made, ours)
    ours.attend(early, 0, made.query[0].to(device), scale=1.0)
    with pytest.raises(ValueError, match="made after one step was run"):
        ours.refill(early, made.step)
    plan = ours.plan(made.step)
    before = plan.slots.clone()
    large = made_of(Trial(Case([(20, 1)] * 3, kv_heads=1, dim=16)))
    with pytest.raises(ValueError, match="needs room for 3 tokens, and the plan has 2"):
        ours.refill(plan, large.step)
    assert torch.equal(plan.slots, before)


def test_rows_of_padding_are_not_written(device: torch.device) -> None:
    """A graph runs with as many rows as it was captured with."""
    trial = Trial(Case([(20, 1)], kv_heads=1, dim=16, layers=1, seed=fresh_seed()))
    made = made_of(trial)
    ours = backend_of(made, trial, device)
    plan = ours.plan(made.step, ours.room_for_decoding(4, 4))
    padded = torch.cat([made.key[0], torch.full((3, 1, 16), 7.0)]).to(device)
    before = ours.cache.data.clone()
    ours.write(plan, 0, padded, padded)
    changed = ~torch.isclose(before, ours.cache.data, equal_nan=True)
    assert set(changed.nonzero()[:, 3].tolist()) == set(made.step.slots.tolist())


# -- proof of power


@pytest.mark.parametrize("part", [0, 1], ids=["key", "value"])
@pytest.mark.parametrize("tuning", [PLAIN, SHARE_ALL])
def test_one_wrong_number_is_seen(part: int, tuning: Tuning, device: torch.device) -> None:
    """One bit of the exponent of one number, in a block of its own or a shared one."""
    case = Case([(40, 1)] * 2, kv_heads=1, dim=16, layers=1, shared=1)
    for place in (3, 38):
        trial = Trial(replace(case, seed=place), tuning=tuning)
        made = made_of(trial)
        ours = backend_of(made, trial, device)
        slot = int(made.step.block_tables[1, place // 16]) * 16 + place % 16
        ours.cache.data[0, part, 0, slot].view(torch.int32)[2] ^= 1 << 25
        with pytest.raises(AssertionError):
            compare(made, ours, trial)


LAYOUT = KVLayout(layers=1, kv_heads=1, head_dim=2, num_blocks=1, block_size=1)


def test_on_the_cpu_it_needs_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton.knobs.runtime.interpret", False)
    with pytest.raises(ValueError, match="TRITON_INTERPRET=1"):
        GpuBackend(KVCache(LAYOUT))
    assert not isinstance(backend_for(KVCache(LAYOUT)), GpuBackend)


@pytest.mark.gpu
def test_a_gpu_gets_it(device: torch.device) -> None:
    ours = backend_for(KVCache(replace(LAYOUT, device=device)))
    assert isinstance(ours, GpuBackend)
    assert ours.tuning.programs > 1

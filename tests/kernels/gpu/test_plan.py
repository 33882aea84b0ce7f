"""How large the plans of captured decode steps are: the steps that sharing is for fit into them."""

import random
from dataclasses import replace

import pytest
import torch

from ramet.kernels import KVCache, KVLayout, Step
from ramet.kernels.gpu import backend
from ramet.kernels.gpu.attention import MOST_LANES, MOST_LANES_FLOAT32
from ramet.kernels.gpu.backend import GpuBackend, tuning_for
from ramet.kernels.gpu.plan import DoesNotFit, Reader, Room
from ramet.kernels.gpu.runs import Tuning, runs_of
from tests.kernels.gpu.worlds import SHARE_ALL

BLOCK = 16
H100 = Tuning(programs=4 * 132, most_lanes=MOST_LANES)
HEADS = [(8, 4), (32, 1), (4, 8), (1, 8), (2, 16), (1, 32), (8, 1), (1, 71)]  # of keys, and groups


def decoding(tables: list[list[int]], contexts: list[int]) -> Step:
    width = max(map(len, tables))
    return Step(
        query_starts=torch.arange(len(tables) + 1),
        contexts=torch.tensor(contexts),
        block_tables=torch.tensor([table + [-1] * (width - len(table)) for table in tables]),
        slots=torch.full((len(tables),), -1),
    )


def on_one_run(sequences: int, shared: int, own: int) -> Step:
    """So many keys that all share, and as many that each has alone."""
    begin = list(range(shared // BLOCK))
    rest = -(-own // BLOCK)
    tables = [
        [*begin, *range(10_000 + row * rest, 10_000 + (row + 1) * rest)] for row in range(sequences)
    ]
    return decoding(tables, [shared + own] * sequences)


def room(step: Step, kv_heads: int, groups: int, tuning: Tuning) -> Room:
    programs = -(-tuning.programs // kv_heads)
    sizes = (step.tokens, step.block_tables.shape[1], programs)
    return Room.for_decoding(*sizes, tuning.most_lanes, [groups])


def needed(step: Step, kv_heads: int, groups: int, tuning: Tuning) -> Room:
    cut = runs_of(step, BLOCK, kv_heads, groups, None, tuning)
    return Room.of(step, {Reader(None, groups): cut})


def too_small(has: Room, needs: Room) -> list[str]:
    return [name for name in Room.__dataclass_fields__ if getattr(needs, name) > getattr(has, name)]


@pytest.mark.parametrize(("kv_heads", "groups"), HEADS)
@pytest.mark.parametrize(
    ("sequences", "shared", "own"),
    [(64, 8192, 256), (64, 8192, 16), (64, 8192, 1), (256, 8192, 16), (8, 32_768, 16), (1, 0, 9)],
)
def test_steps_on_one_shared_run_fit(
    sequences: int, shared: int, own: int, kv_heads: int, groups: int
) -> None:
    """Among them 64 sequences on 8,192 keys with 256 of their own, which issue 5 names."""
    step = on_one_run(sequences, shared, own)
    sizes = step, kv_heads, groups, H100
    assert too_small(room(*sizes), needed(*sizes)) == []


@pytest.mark.parametrize("again", range(60))
def test_what_passes_over_seven_runs_fits(again: int) -> None:
    rng = random.Random()
    tables: list[list[int]] = []
    fresh = iter(range(1_000_000))
    for _ in range(rng.randrange(1, 60)):
        begin = rng.choice(tables) if tables and rng.random() < 0.95 else []
        begin = begin[: rng.randrange(len(begin) + 1)]
        tables.append([*begin, *(next(fresh) for _ in range(rng.randrange(1, 40)))])
    step = decoding(tables, [len(table) * BLOCK - rng.randrange(BLOCK) for table in tables])
    kv_heads, groups = rng.choice(HEADS)
    tuning = rng.choice(
        (H100, replace(SHARE_ALL, programs=528), replace(SHARE_ALL, programs=528, min_split=1))
    )
    whole = replace(tuning, programs=1, min_split=1 << 40)
    passes = needed(step, kv_heads, groups, whole).entries / len(tables)
    sizes = step, kv_heads, groups, tuning
    if passes <= 8:
        assert too_small(room(*sizes), needed(*sizes)) == []


def test_a_step_that_is_refused_is_not_cut_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comb: each row leaves the others one block after the last."""
    tables = [[*range(row), 100 + row] for row in range(1, 41)]
    step = decoding(tables, [len(table) * BLOCK for table in tables])
    layout = KVLayout(layers=1, kv_heads=1, head_dim=16, num_blocks=200, block_size=BLOCK)
    ours = GpuBackend(KVCache(layout), SHARE_ALL)
    ours._readers[Reader(None, 2)] = None
    cuts: list[Step] = []

    def counted(step: Step, *how: object) -> object:
        cuts.append(step)
        return runs_of(step, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(backend, "runs_of", counted)
    with pytest.raises(DoesNotFit, match="needs room for 859 entries, and the plan has 352"):
        ours.plan(step, ours.room_for_decoding(40, 64))
    assert ours.plan(step).room.entries == 859
    assert len(cuts) == 1
    ours.plan(replace(step))
    assert len(cuts) == 2


def test_programs_are_as_wide_as_the_queries_allow() -> None:
    """The queries, and not the cache, lie in registers."""
    layout = KVLayout(layers=1, kv_heads=1, head_dim=16, num_blocks=1, block_size=BLOCK)
    half = replace(layout, dtype=torch.bfloat16)
    assert tuning_for(layout).most_lanes == MOST_LANES_FLOAT32
    assert tuning_for(half).most_lanes == MOST_LANES
    assert tuning_for(half, torch.float32).most_lanes == MOST_LANES_FLOAT32
    assert tuning_for(layout, torch.bfloat16).most_lanes == MOST_LANES
    ours = GpuBackend(KVCache(half), dtype=torch.float32)
    assert ours.room_for_decoding(4, 16).lanes == MOST_LANES_FLOAT32

"""Random steps for the GPU backend, forests of block tables among them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ramet.kernels import KVCache
from ramet.kernels.gpu.backend import GpuBackend
from ramet.kernels.gpu.runs import Tuning
from tests.kernels.steps import NAN, Case, World, world

SHARE_ALL = Tuning(min_saved=1, partial_cost=0)
SPLIT_ALL = Tuning(programs=1 << 20, min_split=1, min_saved=1, partial_cost=0)
PLAIN = Tuning(min_saved=1 << 30)
FLOAT8 = torch.float8_e4m3fn


@dataclass(frozen=True)
class Trial:
    """One run of the backend."""

    case: Case
    window: int | None = None
    softcap: float | None = None
    tuning: Tuning = field(default_factory=Tuning)
    branching: bool = False  # block tables form a forest of several levels
    float8: bool = False  # the cache, whatever the queries are


def check(trial: Trial, device: torch.device) -> None:
    """The backend gives what the reference gives.

    Raises:
        AssertionError: it does not, with the trial as a note.
    """
    with noted(trial):
        made = made_of(trial)
        ours = backend_of(made, trial, device)
        compare(made, ours, trial)


def made_of(trial: Trial) -> World:
    made = world(trial.case)
    if trial.branching:
        branch(made, random.Random(trial.case.seed))
    return made


def backend_of(made: World, trial: Trial, device: torch.device) -> GpuBackend:
    """A backend over a copy of the reference's cache."""
    layout = made.reference.cache.layout
    if trial.float8:
        made.reference.cache.data.copy_(rounded(made.reference.cache.data))
        layout = replace(layout, dtype=FLOAT8)
    cache = KVCache(replace(layout, device=device))
    cache.data.copy_(made.reference.cache.data)
    return GpuBackend(cache, trial.tuning)


def compare(made: World, ours: GpuBackend, trial: Trial) -> None:
    got = outputs(made, ours, trial.window, trial.softcap)
    if trial.float8:
        made.key, made.value = rounded(made.key), rounded(made.value)
    expected = made.run(made.reference, window=trial.window, softcap=trial.softcap)
    made.agree(got, expected)


def outputs(
    made: World, ours: GpuBackend, window: int | None = None, softcap: float | None = None
) -> list[Tensor]:
    """What every layer gives `[T, heads, dim]`, on the CPU."""
    device = ours.cache.layout.device
    plan = ours.plan(made.step)
    found: list[Tensor] = []
    for layer in range(made.case.layers):
        ours.write(plan, layer, made.key[layer].to(device), made.value[layer].to(device))
        query = made.query[layer].to(device)
        out = ours.attend(plan, layer, query, scale=made.scale, window=window, softcap=softcap)
        found.append(out.cpu())
    return found


def rounded(x: Tensor) -> Tensor:
    """To what a float8 cache holds."""
    return x.clamp(-448, 448).to(FLOAT8).to(x.dtype)


def branch(made: World, rng: random.Random) -> None:
    """Let each sequence begin as an earlier one does, which itself begins as another does.

    The blocks that nobody has any more become NaN, as all free blocks are.
    """
    case, tables = made.case, made.step.block_tables
    shareable = [(context - count) // case.block for context, count in case.lengths]
    for row in range(1, len(case.lengths)):
        other = rng.randrange(row)
        most = min(shareable[row], shareable[other])
        depth = rng.choice((0, most, rng.randrange(most + 1)))
        tables[row, :depth] = tables[other, :depth]
    owned = set(tables[tables >= 0].tolist())
    for block in set(range(made.reference.cache.layout.num_blocks)) - owned:
        slots = slice(block * case.block, (block + 1) * case.block)
        made.reference.cache.data[:, :, :, slots] = NAN


def random_trial(seed: int, dtype: torch.dtype, *, large: bool = False) -> Trial:
    """Prompts, rests of prompts and single tokens, around the edges of blocks.

    Args:
        large: as a GPU takes them; otherwise as the interpreter does.
    """
    rng = random.Random(seed)
    block = rng.choice((1, 5, 16, 32) if large else (1, 5, 16))
    most = 300 if large else 50
    blocks = max(1, most // block // 2)
    edges = [max(1, k * block + d) for k in (1, 2, blocks) for d in (-1, 0, 1)]
    lengths: list[tuple[int, int]] = []
    for _ in range(rng.randrange(1, 30 if large else 5)):
        context = rng.choice((*edges, rng.randrange(1, most)))
        some = rng.randrange(min(context, most if large else 6)) + 1
        lengths.append((context, rng.choice((1, 1, some, context if large else some))))
    case = Case(
        lengths,
        block=block,
        kv_heads=rng.choice((1, 2, 3) if large else (1, 2)),
        groups=rng.choice((1, 2, 3, 4, 8)),
        dim=rng.choice((16, 24, 64, 80, *((1, 5, 128, 256) if large else ()))),
        dtype=dtype,
        recomputed=rng.choice((0.0, 0.5, 1.0)),
        layers=2 if large else 1,
        seed=seed,
        sharpness=rng.choice((0.3, 1.0, 4.0)),
        trees=rng.choice((0.0, 0.3, 1.0)),
    )
    return Trial(
        case,
        window=rng.choice((None, None, 1, 7, 40)),
        softcap=rng.choice((None, None, 3.0, 50.0)),
        tuning=rng.choice((Tuning(), SHARE_ALL, SPLIT_ALL)),
        branching=rng.random() < 0.7,
    )


def fresh_seed() -> int:
    """Another one each run; a failure's note says which."""
    return random.SystemRandom().randrange(1 << 32)


@contextmanager
def noted(trial: Trial) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"trial: {trial}")
        raise

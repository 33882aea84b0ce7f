"""Attention on a GPU at the shapes of Llama-3.1-8B: steps to decode, bytes they read, and peers.

Part of `gpu.py`. A step is random: what is in the cache does not change how long it takes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import torch
from machine import median, seconds
from torch import Tensor

from ramet.kernels import KVCache, KVLayout, Step
from ramet.kernels.gpu.backend import GpuBackend, tuning_for

NEVER = 1 << 60  # key reads that nobody saves by sharing


@dataclass(frozen=True, slots=True)
class Heads:
    """One layer's."""

    queries: int = 32
    keys: int = 8
    dim: int = 128
    block: int = 16
    dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True, slots=True)
class World:
    """A step that decodes one token of each sequence, over a cache of one layer."""

    heads: Heads
    cache: KVCache
    step: Step
    query: Tensor  # [sequences, queries, dim]

    def bytes(self) -> int:
        """What attention has to read and write: every key and value of a block once, however many
        share it; queries and results."""
        heads = self.heads
        size = heads.dtype.itemsize
        tokens = len(self.step.block_tables[self.step.block_tables >= 0].unique()) * heads.block
        return (tokens * 2 * heads.keys * heads.dim + 2 * self.query.numel()) * size


def decoding(
    heads: Heads, sequences: int, own: int, device: torch.device, shared: int = 0
) -> World:
    """`sequences` with `shared` tokens in common and `own` each; both multiples of a block."""
    common, rest = shared // heads.block, own // heads.block
    blocks = common + sequences * rest
    order = torch.randperm(blocks, generator=torch.Generator().manual_seed(0)).numpy()
    tables = np.concatenate(
        [
            np.broadcast_to(order[:common], (sequences, common)),
            order[common:].reshape(sequences, rest),
        ],
        axis=1,
    )
    context = shared + own
    layout = KVLayout(1, heads.keys, heads.dim, blocks, heads.block, heads.dtype, device)
    cache = KVCache(layout)
    cache.data.normal_()
    step = Step(
        query_starts=torch.arange(sequences + 1),
        contexts=torch.full((sequences,), context),
        block_tables=torch.from_numpy(tables.copy()),
        slots=torch.full((sequences,), -1),
    )
    size = (sequences, heads.queries, heads.dim)
    return World(heads, cache, step, torch.randn(size, device=device).to(heads.dtype))


def ours(world: World, *, shares: bool = True) -> Callable[[], Tensor]:
    """One layer's attention, planned."""
    tuning = tuning_for(world.cache.layout)
    if not shares:
        tuning = replace(tuning, min_saved=NEVER)
    backend = GpuBackend(world.cache, tuning)
    scale = world.heads.dim**-0.5
    backend.attend(backend.plan(world.step), 0, world.query, scale=scale)  # it knows its readers
    plan = backend.plan(world.step)
    return lambda: backend.attend(plan, 0, world.query, scale=scale)


def cascade(world: World, shared: int) -> Callable[[], Tensor] | None:
    """FlashInfer's cascade of the shared run and the sequences' own; None if it is not here."""
    if find_spec("flashinfer") is None:
        return None
    import flashinfer  # type: ignore[import-not-found]

    heads, device = world.heads, world.query.device
    sequences, common = len(world.query), shared // heads.block
    tables = world.step.block_tables.int()
    own = tables.shape[1] - common

    def levels(*arrays: Tensor) -> list[Tensor]:
        return [array.int().to(device) for array in arrays]

    wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(
        2, torch.empty(128 << 20, dtype=torch.uint8, device=device), "HND"
    )
    wrapper.plan(
        levels(torch.tensor([0, sequences]), torch.arange(sequences + 1)),
        levels(torch.tensor([0, common]), torch.arange(sequences + 1) * own),
        levels(tables[0, :common], tables[:, common:].reshape(-1)),
        levels(torch.tensor([heads.block]), torch.full((sequences,), heads.block)),
        heads.queries,
        heads.keys,
        heads.dim,
        heads.block,
        q_data_type=heads.dtype,
        kv_data_type=heads.dtype,
    )
    pages = paged(world)
    return lambda: wrapper.run(world.query, pages)


def paged(world: World) -> Tensor:
    """The cache in FlashInfer's layout `[blocks, 2, keys, block, dim]`, a copy."""
    layout, data = world.cache.layout, world.cache.data[0, :, :, : world.cache.layout.slots]
    blocks = data.unflatten(2, (layout.num_blocks, layout.block_size))
    return blocks.permute(2, 0, 1, 3, 4).contiguous()


def copy_bandwidth(device: torch.device, size: int = 1 << 30) -> float:
    """Bytes a second of a copy within the device's memory, counted both ways."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / time_of(lambda: target.copy_(source), device)


def time_of(call: Callable[[], object], device: torch.device, repeats: int = 20) -> float:
    """Median seconds of a call on the device; on a GPU of ten beside each other."""
    call()
    if device.type == "cpu":
        return median(seconds(call, repeats))
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(10):
            call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 10_000)
    return median(times)

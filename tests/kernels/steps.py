"""Random varlen batches with their caches, and what to hold a backend against."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ramet.kernels import Backend, KVCache, KVLayout, Step, Tree, backend_for
from ramet.kernels.compiled import CompiledBackend
from ramet.kernels.cpu import CpuBackend
from ramet.kernels.reference import ReferenceBackend
from ramet.kernels.tiles import Tile

NAN = float("nan")


@dataclass(frozen=True)
class Case:
    """The numbers a random step is drawn by."""

    lengths: Sequence[tuple[int, int]]  # context and query tokens of each sequence
    block: int = 16
    kv_heads: int = 2
    groups: int = 2
    dim: int = 8
    dtype: torch.dtype = torch.float32
    kept: torch.dtype | None = None  # of the cache, if it is another
    shared: int = 0  # leading blocks that all sequences have in common, where they are that long
    inside: bool = False  # query tokens may lie in shared blocks, which have them already
    recomputed: float = 0.0  # part of the query tokens that is in the cache already
    layers: int = 2
    seed: int = 0
    sharpness: float = 1.0  # size of the scores
    trees: float = 0.0  # part of the sequences whose last query tokens form a tree


@dataclass
class World:
    """A step, and equal caches: free blocks and what the step will write are NaN in all."""

    case: Case
    step: Step
    cpu: CpuBackend
    compiled: CompiledBackend
    reference: ReferenceBackend
    query: Tensor  # [layers, T, heads, dim]
    key: Tensor  # [layers, T, kv_heads, dim]
    value: Tensor

    def run(
        self,
        backend: Backend,
        *,
        window: int | None = None,
        softcap: float | None = None,
    ) -> list[Tensor]:
        """What every layer gives, `[T, heads, dim]`."""
        plan = backend.plan(self.step)
        outputs: list[Tensor] = []
        for layer in range(self.case.layers):
            backend.write(plan, layer, self.key[layer], self.value[layer])
            query = self.query[layer]
            outputs.append(
                backend.attend(plan, layer, query, scale=self.scale, window=window, softcap=softcap)
            )
        return outputs

    @property
    def scale(self) -> float:
        return self.case.dim**-0.5 * self.case.sharpness

    @property
    def tolerance(self) -> float:
        """What rounding can do to a result at worst, to first order.

        With unit roundoff u and scores up to S, rounding queries and scores moves a weight by the
        part u · S; rounding the weight itself and the result adds 2 u. A weighted mean of values up
        to V then moves by u · (S + 2) · V. Sums are kept in float32, whose own error is far below
        that for a narrow dtype, and grows with the root of the length for float32.
        """
        if not self.step.tokens:
            return 0.0
        roundoff = torch.finfo(self.case.dtype).eps / 2
        longest = [part.float().norm(dim=-1).nan_to_num().max() for part in (self.query, self.keys)]
        score = float(longest[0] * longest[1]) * self.scale
        return roundoff * (score + 2) * float(self.values.float().nan_to_num().abs().max())

    @property
    def keys(self) -> Tensor:
        return self._written[:, 0]

    @property
    def values(self) -> Tensor:
        return self._written[:, 1]

    @property
    def _written(self) -> Tensor:
        """Everything in the reference's cache; run it first."""
        return self.reference.cache.data

    def compare(self, *, window: int | None = None, softcap: float | None = None) -> None:
        """Both backends give what the reference gives.

        Raises:
            AssertionError: one does not.
        """
        expected = self.run(self.reference, window=window, softcap=softcap)
        for backend in (self.cpu, self.compiled):
            got = self.run(backend, window=window, softcap=softcap)
            self.agree(got, expected)

    def agree(self, got: list[Tensor], expected: list[Tensor]) -> None:
        """Layer by layer, within the tolerance; what was expected is the reference's.

        Raises:
            AssertionError: they do not.
        """
        for ours, truth in zip(got, expected, strict=True):
            assert ours.dtype == truth.dtype == self.case.dtype
            assert ours.shape == truth.shape
            assert not truth.isnan().any(), "the reference reads only what was written"
            if not ours.numel():
                continue
            error = ours.float() - truth.float()
            assert error.abs().max() <= self.tolerance, self.case
            if len(error.flatten()) >= 64:
                assert error.square().mean().sqrt() <= self.tolerance / 4, "and mostly far less"

    def tiles(self, window: int | None = None) -> list[Tile]:
        """How the CPU backend cuts this step."""
        plan = self.cpu.plan(self.step)
        self.cpu.attend(plan, 0, self.query[0], scale=self.scale, window=window)
        return plan.tiles[window]


def compiled(cache: KVCache) -> CompiledBackend:
    backend = backend_for(cache)
    assert isinstance(backend, CompiledBackend), "there is a compiler where tests are run"
    return backend


def world(case: Case) -> World:
    rng = random.Random(case.seed)
    draw = torch.Generator().manual_seed(case.seed)
    tables, blocks = _tables(case, rng)
    layout = KVLayout(
        layers=case.layers,
        kv_heads=case.kv_heads,
        head_dim=case.dim,
        num_blocks=blocks,
        block_size=case.block,
        dtype=case.kept or case.dtype,
    )
    step = _step(case, tables, rng)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw).to(case.dtype)

    filled, new = _filled(case, step), step.slots[step.slots >= 0]
    data = torch.full((case.layers, 2, case.kv_heads, layout.slots + 1, case.dim), NAN)
    data = data.to(layout.dtype)
    known = normal(case.layers, 2, case.kv_heads, len(filled), case.dim)
    data[:, :, :, filled] = known.to(layout.dtype)
    data[:, :, :, new] = NAN
    data[:, :, :, layout.slots] = 0
    caches = [KVCache(layout) for _ in range(3)]
    for cache in caches:
        cache.data.copy_(data)
    tokens = (case.layers, step.tokens)
    return World(
        case=case,
        step=step,
        cpu=CpuBackend(caches[0]),
        compiled=compiled(caches[1]),
        reference=ReferenceBackend(caches[2]),
        query=normal(*tokens, case.kv_heads * case.groups, case.dim),
        key=normal(*tokens, case.kv_heads, case.dim),
        value=normal(*tokens, case.kv_heads, case.dim),
    )


def _tables(case: Case, rng: random.Random) -> tuple[np.ndarray, int]:
    """Block tables in random order with −1 where they are unused, and the number of blocks.

    No member writes to a shared block: it ends before a member's query tokens, or holds what they
    will be.
    """
    needed = [-(-context // case.block) for context, _ in case.lengths]
    blocks = sum(needed) + case.shared + 3  # three that nobody has
    order = rng.sample(range(blocks), blocks)
    tables = np.full((len(needed), max(needed, default=0) + 1), -1, np.int64)
    common = [order.pop() for _ in range(case.shared)]
    for row, (context, count) in enumerate(case.lengths):
        old = min((context if case.inside else context - count) // case.block, len(common))
        own = [order.pop() for _ in range(needed[row] - old)]
        tables[row, : needed[row]] = common[:old] + own
    return tables, blocks


def _step(case: Case, tables: np.ndarray, rng: random.Random) -> Step:
    slots: list[int] = []
    for row, (context, count) in enumerate(case.lengths):
        # What is in the cache already is a beginning: tokens are committed in order.
        known = context - count + int(case.recomputed * count * rng.random())
        if case.inside:
            known = max(known, min(context // case.block, case.shared) * case.block)
        for place in range(context - count, context):
            slot = int(tables[row, place // case.block]) * case.block + place % case.block
            slots.append(-1 if place < known else slot)
    return Step(
        query_starts=torch.tensor([0, *np.cumsum([count for _, count in case.lengths])]),
        contexts=torch.tensor([context for context, _ in case.lengths], dtype=torch.int64),
        block_tables=torch.from_numpy(tables),
        slots=torch.tensor(slots, dtype=torch.int64),
        trees=_trees(case, rng),
    )


def _trees(case: Case, rng: random.Random) -> list[Tree]:
    """Of all or some of a sequence's query tokens, which go on from any before them."""
    return [
        Tree(row, ancestors_of([rng.randrange(-1, i) for i in range(rng.randrange(1, count + 1))]))
        for row, (_, count) in enumerate(case.lengths)
        if rng.random() < case.trees and count
    ]


def ancestors_of(parents: Sequence[int]) -> np.ndarray:
    seen = np.eye(len(parents), dtype=np.bool_)
    for row, parent in enumerate(parents):
        while parent >= 0:
            seen[row, parent] = True
            parent = parents[parent]
    return seen


def _filled(case: Case, step: Step) -> Tensor:
    """Every slot that some sequence has a token in."""
    found = {
        int(step.block_tables[row, place // case.block]) * case.block + place % case.block
        for row, (context, _) in enumerate(case.lengths)
        for place in range(context)
    }
    return torch.tensor(sorted(found), dtype=torch.int64)

"""The compiled CPU backend: `csrc/attention.cpp` straight over the block tables, nothing gathered.

Here a step is cut into *units*: items (queries of one sequence) that share a run of leading blocks,
as many as fill `UNIT_ROWS`. The C++ side runs each unit once for every key head.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ramet.kernels.cpu import CpuBackend
from ramet.kernels.layout import KVCache, Step
from ramet.kernels.rotary import HeadNorms, Rotary
from ramet.kernels.tiles import Item, items, shared_runs

UNIT_ROWS = 32  # query rows that pass over a shared run together

_CHAIN = (-1, 0, 0, 0)  # an item's tree, if it has none
_NO_WINDOW = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """A step cut for the layers of one window."""

    units: Tensor  # [U, 3] first item, item after the last, leading keys that all share
    items: Tensor  # [I, 8] as `Item` in csrc/attention.cpp


@dataclass(frozen=True, slots=True)
class Plan:
    """What all layers of one step share."""

    step: Step
    batch: list[Item]
    ancestors: Tensor  # uint8, all trees' one after the other
    depths: Tensor  # [rows of all trees] int64
    cuts: dict[bool, Cut] = field(default_factory=dict)  # by whether layers see a window


class CompiledBackend:
    """Paged attention in C++ on torch's threads; float32, bfloat16 or float16, sums in float32."""

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self._torch = CpuBackend(cache)

    def plan(self, step: Step) -> Plan:
        trees = [tree.ancestors.reshape(-1) for tree in step.trees]
        depths = [tree.depths for tree in step.trees]
        return Plan(
            step=step,
            batch=items(step, UNIT_ROWS),
            ancestors=torch.from_numpy(np.concatenate([*trees, np.zeros(0, np.bool_)])).byte(),
            depths=torch.from_numpy(np.concatenate([*depths, np.zeros(0, np.int64)])),
        )

    def write(self, plan: Plan, layer: int, key: Tensor, value: Tensor) -> None:
        torch.ops.ramet.write(key, value, plan.step.slots, self.cache.data[layer])

    def write_joined(
        self,
        plan: Plan,
        layer: int,
        joined: Tensor,
        rotary: Rotary,
        norms: HeadNorms | None = None,
    ) -> Tensor:
        return torch.ops.ramet.write_joined(
            joined,
            rotary.cos,
            rotary.sin,
            norms and norms.query,
            norms and norms.key,
            norms.eps if norms else 0.0,
            plan.step.slots,
            self.cache.data[layer],
        )

    def attend(
        self,
        plan: Plan,
        layer: int,
        query: Tensor,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        cut = self._cut(plan, window is not None)
        return torch.ops.ramet.attend(
            query,
            self.cache.data[layer],
            plan.step.block_tables,
            cut.units,
            cut.items,
            plan.ancestors,
            plan.depths,
            self.cache.layout.block_size,
            scale,
            window or _NO_WINDOW,
            softcap or 0.0,
        )

    def copy_blocks(self, copies: Sequence[tuple[int, int, int]]) -> None:
        self._torch.copy_blocks(copies)

    def _cut(self, plan: Plan, windowed: bool) -> Cut:
        if windowed not in plan.cuts:
            groups = [(plan.batch, 0)]
            if not windowed:
                tables = plan.step.block_tables.numpy()
                groups = shared_runs(plan.batch, tables, self.cache.layout.block_size)
            plan.cuts[windowed] = self._cut_groups(plan.step, groups)
        return plan.cuts[windowed]

    def _cut_groups(self, step: Step, groups: Sequence[tuple[Sequence[Item], int]]) -> Cut:
        units: list[tuple[int, int, int]] = []
        rows: list[tuple[int, ...]] = []
        trees = _tree_places(step)
        for group, run in groups:
            for members in _units(group) if run else ([item] for item in group):
                units.append((len(rows), len(rows) + len(members), run * self._block))
                for item in members:
                    tree = trees.get(id(item.tree), _CHAIN)
                    rows.append((item.sequence, item.row, item.rows, item.end, *tree))
        return Cut(
            torch.tensor(units, dtype=torch.int64).view(-1, 3),
            torch.tensor(rows, dtype=torch.int64).view(-1, 8),
        )

    @property
    def _block(self) -> int:
        return self.cache.layout.block_size


def _units(group: Sequence[Item]) -> Iterator[list[Item]]:
    unit: list[Item] = []
    for item in group:
        if unit and sum(each.rows for each in unit) + item.rows > UNIT_ROWS:
            yield unit
            unit = []
        unit.append(item)
    yield unit


def _tree_places(step: Step) -> dict[int, tuple[int, int, int, int]]:
    """Of each tree by its identity: its base, and where it lies in `depths` and `ancestors`."""
    found: dict[int, tuple[int, int, int, int]] = {}
    depths = ancestors = 0
    for tree in step.trees:
        size = len(tree.ancestors)
        found[id(tree)] = (int(step.contexts[tree.sequence]) - size, depths, ancestors, size)
        depths, ancestors = depths + size, ancestors + size * size
    return found

"""The compiled CPU backend: `csrc/` straight over the block tables, nothing gathered."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ramet.kernels import units
from ramet.kernels.cpu import CpuBackend
from ramet.kernels.layout import KVCache, Step
from ramet.kernels.rotary import HeadNorms, Rotary
from ramet.kernels.units import MIN_SAVED, Cut

_NO_WINDOW = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What all layers of one step share."""

    step: Step
    ancestors: Tensor  # uint8, all trees' one after the other
    depths: Tensor  # [rows of all trees] int64
    cuts: dict[tuple[bool, int], Cut] = field(default_factory=dict)  # by `share` and `groups`


class CompiledBackend:
    """Paged attention in C++ on torch's threads; float32, bfloat16 or float16, sums in float32.

    A cache may keep bfloat16 or float16 of what is float32 otherwise.
    """

    def __init__(self, cache: KVCache, least_saved: int = MIN_SAVED) -> None:
        """`least_saved`: key reads that sharing a run must save before the run is shared."""
        self.cache = cache
        self._least_saved = least_saved
        self._torch = CpuBackend(cache)

    def plan(self, step: Step) -> Plan:
        trees = [tree.ancestors.reshape(-1) for tree in step.trees]
        depths = [tree.depths for tree in step.trees]
        return Plan(
            step=step,
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
        cut = self.cut(plan, query.shape[1], share=window is None)
        return torch.ops.ramet.attend(
            query,
            self.cache.data[layer],
            plan.step.block_tables,
            cut.units,
            cut.passes,
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

    def cut(self, plan: Plan, heads: int, *, share: bool) -> Cut:
        """The step cut for layers of so many query heads; see `units.cut`."""
        groups = heads // self.cache.layout.kv_heads
        kind = (share, groups)
        if kind not in plan.cuts:
            block = self.cache.layout.block_size
            plan.cuts[kind] = units.cut(
                plan.step, block, groups, share=share, least_saved=self._least_saved
            )
        return plan.cuts[kind]

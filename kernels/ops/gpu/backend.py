"""The GPU backend: plans a step on the host, then launches Triton kernels over it.

Knows which kernel follows which; what they compute stands in their own files.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from triton import knobs

from ramet.kernels.gpu.attention import MOST_LANES, MOST_LANES_FLOAT32, attend
from ramet.kernels.gpu.copies import COPY_FIELDS, copy_blocks
from ramet.kernels.gpu.merge import merge
from ramet.kernels.gpu.plan import Cut, Plan, Reader, Room
from ramet.kernels.gpu.rotary import rotate_and_write
from ramet.kernels.gpu.runs import Runs, Tuning, runs_of
from ramet.kernels.gpu.sheet import Sheet
from ramet.kernels.gpu.write import write
from ramet.kernels.layout import KVCache, KVLayout, Step
from ramet.kernels.rotary import HeadNorms, Rotary

_PROGRAMS_OF_A_PROCESSOR = 4  # not yet measured on a GPU


class GpuBackend:
    """Paged attention in Triton; float32, bfloat16 or float16, sums in float32.

    The cache may have another dtype than the queries, float8_e4m3fn among them. On CPU tensors it
    runs in triton's interpreter, for tests.
    """

    def __init__(
        self, cache: KVCache, tuning: Tuning | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """
        Args:
            tuning: None: the device's own.
            dtype: of queries; None: the cache's.

        Raises:
            ValueError: the cache lies on the CPU and triton does not interpret.
        """
        if cache.layout.device.type == "cpu" and not knobs.runtime.interpret:
            raise ValueError("triton on the CPU needs TRITON_INTERPRET=1 before it is imported")
        self.cache = cache
        self.tuning = tuning if tuning is not None else tuning_for(cache.layout, dtype)
        self._readers: dict[Reader, None] = {}  # that layers have been, in order
        self._latest: tuple[Step, dict[Reader, Runs]] | None = None  # a step and its cuts
        self._kept: list[Tensor] = []  # float32, for partial results

    def plan(self, step: Step, room: Room | None = None) -> Plan:
        """Work out what every layer repeats, and start its copy to the device.

        Args:
            room: how large the plan is made, where other steps are to be filled in (see `refill`);
                None: as large as the step.

        Raises:
            DoesNotFit: the step is larger than the room. To plan it without one costs little then:
                it is not cut again.
        """
        return self._plan(step, tuple(self._readers), room)

    def refill(self, plan: Plan, step: Step) -> None:
        """Make a plan one of another step, with the same tensors and the same launches.

        What a replayed CUDA graph reads. Of the results, rows after the step's own are undefined:
        nothing mixes rows, so filling them would cost a launch a layer for nobody.

        Raises:
            DoesNotFit: the plan is as it was.
            ValueError: the plan does not know all the layers yet: it was made before one step was
                run.
        """
        if set(plan.cuts) != set(plan.readers):
            raise ValueError("a plan can be refilled if it was made after one step was run")
        plan.fill(step, self._cut(step, plan.readers))

    def room_for_decoding(self, sequences: int, blocks: int) -> Room:
        """For steps of up to so many sequences that bring one token each, and layers that were."""
        programs = -(-self.tuning.programs // self.cache.layout.kv_heads)
        groups = {reader.groups for reader in self._readers}
        return Room.for_decoding(sequences, blocks, programs, self.tuning.most_lanes, groups)

    def write(self, plan: Plan, layer: int, key: Tensor, value: Tensor) -> None:
        write(self.cache.data[layer], plan.slots, key, value)

    def write_joined(
        self,
        plan: Plan,
        layer: int,
        joined: Tensor,
        rotary: Rotary,
        norms: HeadNorms | None = None,
    ) -> Tensor:
        return rotate_and_write(joined, self.cache.data[layer], plan.slots, rotary, norms)

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
        heads = query.shape[1]
        cut = self._read(plan, Reader(window, heads // self.cache.layout.kv_heads))
        partial, sums = self._partials(cut.partials, heads)
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        attend(
            out,
            partial,
            sums,
            query,
            self.cache.data[layer],
            cut.work,
            block=self.cache.layout.block_size,
            scale=scale,
            window=window,
            softcap=softcap,
        )
        merge(out, partial, sums, cut.work.counts[2:], cut.merged, cut.starts)
        return out

    def copy_blocks(self, copies: Sequence[tuple[int, int, int]]) -> None:
        if not copies:
            return
        sheet = Sheet([(len(copies), COPY_FIELDS)], self.cache.layout.device)
        sheet.fill([np.array(copies, np.int64)])
        copy_blocks(self.cache.data, sheet.part(0), self.cache.layout.block_size)

    def _partials(self, count: int, heads: int) -> tuple[Tensor, Tensor]:
        """Memory for partial results: `[count, heads, head_dim]` and `[count, heads]` float32.

        The same for all layers and plans, which run one after the other. What is too small is kept,
        since a captured graph may use it.
        """
        dim = self.cache.layout.head_dim
        size = count * heads * (dim + 1)
        if not self._kept or len(self._kept[-1]) < size:
            room = max(size, 2 * len(self._kept[-1]) if self._kept else 0)
            self._kept.append(torch.empty(room, device=self.cache.layout.device))
        values, sums = self._kept[-1][:size].split((count * heads * dim, count * heads))
        return values.view(count, heads, dim), sums.view(count, heads)

    def _read(self, plan: Plan, reader: Reader) -> Cut:
        """A reader that comes for the first time is planned for now, and from then on in time."""
        if reader not in plan.cuts:
            self._readers[reader] = None
            plan.cuts[reader] = self._plan(plan.step, (reader,), None).cuts[reader]
        return plan.cuts[reader]

    def _plan(self, step: Step, readers: tuple[Reader, ...], room: Room | None) -> Plan:
        runs = self._cut(step, readers)
        plan = Plan(step, room or Room.of(step, runs), self.cache.layout, readers)
        plan.fill(step, runs)
        return plan

    def _cut(self, step: Step, readers: tuple[Reader, ...]) -> dict[Reader, Runs]:
        """A step that a plan refused comes again, so the latest one is remembered."""
        if self._latest is None or self._latest[0] is not step:
            self._latest = step, {}
        layout, known = self.cache.layout, self._latest[1]
        for reader in readers:
            if reader not in known:
                known[reader] = runs_of(
                    step,
                    layout.block_size,
                    layout.kv_heads,
                    reader.groups,
                    reader.window,
                    self.tuning,
                )
        return {reader: known[reader] for reader in readers}


def tuning_for(layout: KVLayout, dtype: torch.dtype | None = None) -> Tuning:
    """As many programs as a GPU's processors run at once; no splitting in the interpreter.

    Args:
        dtype: of queries; None: the cache's.
    """
    programs = 1
    if layout.device.type == "cuda":
        processors = torch.cuda.get_device_properties(layout.device).multi_processor_count
        programs = _PROGRAMS_OF_A_PROCESSOR * processors
    lanes = MOST_LANES_FLOAT32 if (dtype or layout.dtype) == torch.float32 else MOST_LANES
    return Tuning(programs=programs, most_lanes=lanes)

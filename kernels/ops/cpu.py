"""The CPU backend: a few large torch operations a layer over the tiles of a step.

Nothing here loops over rows or blocks. What a layer gathers goes into buffers that are kept from
call to call: fresh ones would be mapped and zeroed page by page each time, which measured ten times
the cost of the products themselves (2 cores, 32 sequences of 100 tokens).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ramet.kernels.layout import KVCache, Step
from ramet.kernels.rotary import HeadNorms, Rotary, apart
from ramet.kernels.tiles import Item, Tile, TileMaker, items


@dataclass(frozen=True, slots=True)
class Plan:
    """What all layers of one step share; there are tiles for each window that layers ask for."""

    step: Step
    batch: list[Item]
    written: Tensor  # [n] query rows whose keys and values are new; all of them: empty and n = T
    write_all: bool
    targets: Tensor  # [n * kv_heads] rows of the head-major key matrix they go to
    tiles: dict[int | None, list[Tile]] = field(default_factory=dict)


class CpuBackend:
    """Paged attention in plain torch; float32, bfloat16 or float16, softmax in float32.

    A cache may keep less than queries have: what is read of it becomes the query's dtype.
    """

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self._buffers: dict[str, Tensor] = {}
        self._windows: set[int | None] = {None}  # what layers have asked for

    def plan(self, step: Step) -> Plan:
        slots = step.slots.numpy()
        written = np.flatnonzero(slots >= 0)
        heads = np.arange(self.cache.layout.kv_heads)[None, :] * self._stride
        targets = (slots[written][:, None] + heads).reshape(-1)
        plan = Plan(
            step=step,
            batch=items(step),
            written=torch.from_numpy(written),
            write_all=len(written) == len(slots),
            targets=torch.from_numpy(targets),
        )
        for window in self._windows:
            self._tiles(plan, window)
        return plan

    def write(self, plan: Plan, layer: int, key: Tensor, value: Tensor) -> None:
        for part, new in ((0, key), (1, value)):
            rows = new if plan.write_all else new.index_select(0, plan.written)
            rows = rows.reshape(-1, rows.shape[-1]).to(self.cache.layout.dtype)
            self._matrix(layer, part).index_copy_(0, plan.targets, rows)

    def write_joined(
        self,
        plan: Plan,
        layer: int,
        joined: Tensor,
        rotary: Rotary,
        norms: HeadNorms | None = None,
    ) -> Tensor:
        layout = self.cache.layout
        query, key, value = apart(joined, layout.kv_heads, layout.head_dim, rotary, norms)
        self.write(plan, layer, key, value)
        return query

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
        tokens, heads, dim = query.shape
        kv_heads = self.cache.layout.kv_heads
        grouped = query.view(tokens, kv_heads, heads // kv_heads * dim).transpose(0, 1)
        scaled = torch.mul(grouped, scale, out=self._buffer("query", grouped.shape, query.dtype))
        result = self._buffer("result", (kv_heads, tokens + 1, scaled.shape[-1]), query.dtype)
        for tile in self._tiles(plan, window):
            rows = self._select("rows", scaled, tile.query)
            result.index_copy_(1, tile.out, self._attend(tile, layer, rows, dim, softcap))
        by_token = result[:, :tokens].transpose(0, 1)
        return by_token.clone(memory_format=torch.contiguous_format).view(query.shape)

    def copy_blocks(self, copies: Sequence[tuple[int, int, int]]) -> None:
        size = self.cache.layout.block_size
        if not copies:
            return
        ends, counts = np.array(copies)[:, :2] * size, np.array(copies)[:, 2]
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        slots = np.repeat(ends, counts, axis=0) + offsets[:, None]
        source, target = torch.from_numpy(slots).unbind(1)
        data = self.cache.data
        data.index_copy_(3, target, data.index_select(3, source))

    def _attend(
        self, tile: Tile, layer: int, query: Tensor, dim: int, softcap: float | None
    ) -> Tensor:
        """`[kv_heads, s * q, groups * head_dim]` out of the same, scaled."""
        kv_heads, s = query.shape[0], tile.items
        run, own = tile.shared.numel() // kv_heads, tile.own.numel() // (kv_heads * s)
        key = self._gather("key", layer, 0, tile.own, query.dtype).view(kv_heads * s, own, dim)
        value = self._gather("value", layer, 1, tile.own, query.dtype).view(kv_heads * s, own, dim)
        each = query.view(kv_heads * s, -1, dim)
        scores = self._buffer("scores", (kv_heads * s, each.shape[1], run + own), query.dtype)
        torch.bmm(each, key.transpose(1, 2), out=scores[:, :, run:])
        if run:
            shared_key = self._gather("shared", layer, 0, tile.shared, query.dtype).view(
                kv_heads, run, dim
            )
            together = scores.view(kv_heads, -1, run + own)
            torch.bmm(
                query.view(kv_heads, -1, dim),
                shared_key.transpose(1, 2),
                out=together[:, :, :run],
            )
        weights = self._softmax(tile, scores, kv_heads, run, softcap)
        out = self._buffer("out", tuple(each.shape), query.dtype)
        torch.bmm(weights[:, :, run:], value, out=out)
        if run:
            shared_value = self._gather("shared", layer, 1, tile.shared, query.dtype).view(
                kv_heads, run, dim
            )
            together = weights.view(kv_heads, -1, run + own)
            out.view(kv_heads, -1, dim).baddbmm_(together[:, :, :run], shared_value)
        return out.view(query.shape)

    def _softmax(
        self, tile: Tile, scores: Tensor, kv_heads: int, run: int, softcap: float | None
    ) -> Tensor:
        if softcap is not None:
            scores.div_(softcap).tanh_().mul_(softcap)
        if tile.mask is not None:
            width = scores.shape[-1]
            scores.view(kv_heads, tile.items, tile.rows, -1, width)[..., run:].add_(tile.mask)
        if scores.dtype == torch.float32:
            return torch.softmax(scores, -1, out=scores)
        return torch.softmax(scores, -1, dtype=torch.float32).to(scores.dtype)

    def _tiles(self, plan: Plan, window: int | None) -> list[Tile]:
        if window not in plan.tiles:
            self._windows.add(window)
            layout = self.cache.layout
            plan.tiles[window] = TileMaker(
                tables=plan.step.block_tables.numpy(),
                block=layout.block_size,
                kv_heads=layout.kv_heads,
                stride=self._stride,
                tokens=plan.step.tokens,
                window=window,
                dtype=layout.dtype,
            ).tiles(plan.batch)
        return plan.tiles[window]

    @property
    def _stride(self) -> int:
        return self.cache.layout.slots + 1

    def _matrix(self, layer: int, part: int) -> Tensor:
        """Keys (part 0) or values (1) of a layer as `[kv_heads * (slots + 1), head_dim]`."""
        return self.cache.data[layer, part].view(-1, self.cache.layout.head_dim)

    def _gather(self, name: str, layer: int, part: int, rows: Tensor, dtype: torch.dtype) -> Tensor:
        shape = (rows.numel(), self.cache.layout.head_dim)
        kept = self.cache.layout.dtype
        read = self._buffer(name, shape, kept)
        torch.index_select(self._matrix(layer, part), 0, rows, out=read)
        return read if kept == dtype else self._buffer(f"{name} wide", shape, dtype).copy_(read)

    def _select(self, name: str, source: Tensor, rows: Tensor) -> Tensor:
        shape = (source.shape[0], rows.numel(), source.shape[2])
        out = self._buffer(name, shape, source.dtype)
        return torch.index_select(source, 1, rows, out=out)

    def _buffer(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A kept buffer seen as `shape`; its content is whatever the last use left."""
        size = math.prod(shape)
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < size or kept.dtype != dtype:
            kept = torch.empty(size, dtype=dtype)
            self._buffers[name] = kept
        return kept[:size].view(*shape)

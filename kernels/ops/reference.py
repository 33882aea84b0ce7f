"""Paged attention as the formula says it, one query token at a time: slow, and the truth in tests.

For query token t at position p of a sequence whose keys and values are k_0 … k_p:

    out_t = softmax(scale · q_t · [k_j for max(0, p − window + 1) ≤ j ≤ p]) · [v_j]

(PagedAttention, arXiv 2309.06180, section 4.1: k_j lies in block `table[j // block_size]`.)

A token of a tree sees, of the tree, only its ancestors and itself (the tree attention of SpecInfer,
arXiv 2305.09781, section 4.2); p is then its position, not its place in the table.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ramet.kernels.layout import KVCache, Step, Tree
from ramet.kernels.rotary import HeadNorms, Rotary, apart


class ReferenceBackend:
    """Loops over sequences and tokens. The plan is the step itself."""

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache

    def plan(self, step: Step) -> Step:
        return step

    def write(self, plan: Step, layer: int, key: Tensor, value: Tensor) -> None:
        for row, slot in enumerate(plan.slots.tolist()):
            if slot >= 0:
                self.cache.data[layer, 0, :, slot] = key[row]
                self.cache.data[layer, 1, :, slot] = value[row]

    def write_joined(
        self,
        plan: Step,
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
        plan: Step,
        layer: int,
        query: Tensor,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        out = torch.empty_like(query)
        trees = {tree.sequence: tree for tree in plan.trees}
        for sequence, context in enumerate(plan.contexts.tolist()):
            first, last = plan.query_starts[sequence : sequence + 2].tolist()
            key, value = self._read(plan.block_tables[sequence], layer, context)
            for row in range(first, last):
                path = seen(context, last - row, window, trees.get(sequence))
                out[row] = _attend_one(query[row], key[:, path], value[:, path], scale, softcap)
        return out

    def copy_blocks(self, copies: Sequence[tuple[int, int, int]]) -> None:
        size = self.cache.layout.block_size
        for source, target, tokens in copies:
            data = self.cache.data
            data[:, :, :, target * size : target * size + tokens] = data[
                :, :, :, source * size : source * size + tokens
            ]

    def _read(self, table: Tensor, layer: int, context: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one sequence, each `[kv_heads, context, head_dim]`."""
        size = self.cache.layout.block_size
        slots = torch.tensor([int(table[j // size]) * size + j % size for j in range(context)])
        return self.cache.data[layer, 0][:, slots], self.cache.data[layer, 1][:, slots]


def seen(context: int, left: int, window: int | None = None, tree: Tree | None = None) -> list[int]:
    """Places in its table that a query token sees, in order of position.

    Args:
        context: tokens in context at the last query token.
        left: query tokens of the sequence from this one on.
        tree: that the last of them form.
    """
    place = context - left
    path = list(range(place + 1))
    if tree is not None and left <= len(tree.ancestors):
        base = context - len(tree.ancestors)
        path[base:] = (base + tree.ancestors[place - base].nonzero()[0]).tolist()
    return path if window is None else path[-window:]


def _attend_one(
    query: Tensor, key: Tensor, value: Tensor, scale: float, softcap: float | None
) -> Tensor:
    """`[heads, head_dim]` from one query token and `[kv_heads, n, head_dim]` keys and values."""
    groups = query.shape[0] // key.shape[0]
    key = key.repeat_interleave(groups, dim=0).float()
    value = value.repeat_interleave(groups, dim=0).float()
    scores = torch.einsum("hd,hnd->hn", query.float(), key) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return torch.einsum("hn,hnd->hd", scores.softmax(-1), value).to(query.dtype)

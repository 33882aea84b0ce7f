"""Makes one result of the partial results that a query row has of several runs.

A partial result of the keys K_i is their softmax's mean o_i and the logarithm of its sum,
l_i = log2 Σ_j 2^(s_j); then over all keys

    l = log2 Σ_i 2^(l_i),    o = Σ_i 2^(l_i − l) · o_i

(the rescaling of FlashAttention, arXiv 2205.14135, section 3.1, here between programs as in
FlashDecoding; Hydragen, arXiv 2402.05099, section 3.1; the levels of a forest are just more
parts, as in FlashInfer's cascade inference). A part in which a row saw nothing has l_i = −∞.
"""

import triton
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel

_PARTS = 16  # partial results read at a time; not yet measured on a GPU


def merge(
    out: Tensor, partial: Tensor, sums: Tensor, count: Tensor, merged: Tensor, starts: Tensor
) -> None:
    """Fill the rows of `out` that have partial results.

    Args:
        out: `[T, heads, head_dim]`, contiguous within a head.
        partial: `[P, heads, head_dim]` float32, contiguous.
        sums: `[P, heads]` float32: l_i.
        count: `[1]` int32: how many entries of `merged` there are; the launch is as large as
            `merged` itself.
        merged: `[R]` int32 rows of `out`.
        starts: `[R + 1]` int32: row merged[i] has the parts starts[i] … starts[i + 1].
    """
    rows, (_, heads, dim) = len(merged), out.shape
    assert partial.shape[1:] == (heads, dim) and partial.is_contiguous()
    assert sums.shape == partial.shape[:2] and sums.is_contiguous()
    if not rows:
        return
    _merge_kernel[(rows, heads)](
        out,
        partial,
        sums,
        count,
        merged,
        starts,
        out.stride(0),
        out.stride(1),
        heads,
        HEAD_DIM=dim,
        BLOCK_P=_PARTS,
        BLOCK_D=triton.next_power_of_2(dim),
    )


@kernel
def _merge_kernel(
    out_ptr: tl.tensor,
    partial_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    count_ptr: tl.tensor,
    merged_ptr: tl.tensor,
    starts_ptr: tl.tensor,
    stride_out_row: tl.tensor,
    stride_out_head: tl.tensor,
    heads: tl.tensor,
    HEAD_DIM: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """One program a row and head, over its parts."""
    index = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    if index >= tl.load(count_ptr):
        return
    first = tl.load(starts_ptr + index)
    last = tl.load(starts_ptr + index + 1)
    offs_p = tl.arange(0, BLOCK_P)
    offs_d = tl.arange(0, BLOCK_D)
    largest = tl.full([1], float("-inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    acc = tl.zeros([BLOCK_D], tl.float32)
    for start in range(first, last, BLOCK_P):
        mask = start + offs_p < last
        part = (start + offs_p).to(tl.int64) * heads + head
        sums = tl.load(sums_ptr + part, mask=mask, other=float("-inf"))
        values = tl.load(
            partial_ptr + part[:, None] * HEAD_DIM + offs_d[None, :],
            mask=mask[:, None] & (offs_d < HEAD_DIM)[None, :],
            other=0.0,
        )
        larger = tl.maximum(largest, tl.max(sums, 0))
        safe = tl.where(larger == float("-inf"), 0.0, larger)
        weights = tl.exp2(sums - safe)
        kept = tl.exp2(largest - safe)
        total = total * kept + tl.sum(weights, 0)
        acc = acc * kept + tl.sum(values * weights[:, None], 0)
        largest = larger
    row = tl.load(merged_ptr + index).to(tl.int64)
    to_ptr = out_ptr + row * stride_out_row + head * stride_out_head + offs_d
    tl.store(to_ptr, acc / total, mask=offs_d < HEAD_DIM)

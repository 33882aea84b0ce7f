"""Paged attention over the items of `runs.py`: prefill chunks and decoding rows in one launch.

For a query row with query q, and the keys k_j, values v_j of an item that it sees,

    s_j = scale · q · k_j   (with a soft cap c: c · tanh(s_j / c), Gemma 2, arXiv 2408.00118)
    o = Σ_j softmax(s)_j · v_j,    l = log2 Σ_j 2^(s_j · log2 e)

with a running maximum and sum (FlashAttention, arXiv 2205.14135, section 3.1), k_j and v_j read
through the block table (PagedAttention, arXiv 2309.06180, section 4.1). o is the result where the
row has no other item; where it has, o and l go to `merge.py`. The query heads of a key head lie
beside the rows in one dimension of the product, so a key is read once for all of them (GQA,
arXiv 2305.13245).
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel
from ramet.kernels.gpu.runs import ITEM_FIELDS, NARROW, ROW_FIELDS

MOST_LANES = 64  # of a program; see `tile_of`
MOST_LANES_FLOAT32 = 32
_LEAST = 16  # a side of a matrix product that tensor cores take


@dataclass(frozen=True, slots=True)
class Work:
    """The metadata of one attention call, int32 on the device; see `runs.py` for what it says.

    A tensor may have more room than is used: the launch is as large as the room, and what lies
    beyond `counts` ends at once.
    """

    counts: Tensor  # [3] narrow items, wide items, merged rows
    narrow: Tensor  # [W, ITEM_FIELDS]
    wide: Tensor  # [W, ITEM_FIELDS]
    entry_rows: Tensor  # [N]
    entry_slots: Tensor  # [N]
    rows: Tensor  # [T, ROW_FIELDS]
    masks: Tensor  # [words]; empty: no row belongs to a tree
    tables: Tensor  # [S, M]
    lanes: int  # of a wide item, at most


def attend(
    out: Tensor,
    partial: Tensor,
    sums: Tensor,
    query: Tensor,
    data: Tensor,
    work: Work,
    *,
    block: int,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> None:
    """Run all items.

    Args:
        out: `[T, heads, head_dim]` rows with one item are written, in this dtype.
        partial: `[P, heads, head_dim]` float32, of rows with several.
        sums: `[P, heads]` float32: l.
        query: `[T, heads, head_dim]`, any strides but 1 within a head.
        data: the cache of the layer `[2, kv_heads, slots + 1, head_dim]`; keys and values of
            another dtype are converted to the query's.
        block: tokens of a block.
    """
    _, heads, dim = query.shape
    kv_heads = data.shape[1]
    assert data.shape[3] == dim, "queries and keys have one length"
    assert heads % kv_heads == 0, "each key head has as many query heads"
    assert out.shape == query.shape
    assert dim == 1 or query.stride(2) == out.stride(2) == 1, "a head lies in one piece"
    assert partial.shape[1:] == (heads, dim) and partial.is_contiguous()
    assert data.stride(2) == dim and data.stride(3) == 1, "a head's slots are rows of one matrix"
    sizes = ((work.narrow, work.counts[0:], NARROW), (work.wide, work.counts[1:], work.lanes))
    for items, count, lanes in sizes:
        if not len(items):
            continue
        tile = tile_of(lanes, dim, query.dtype)
        _attend_kernel[(len(items) * kv_heads,)](
            out,
            partial,
            sums,
            query,
            data[0],
            data[1],
            count,
            items,
            work.entry_rows,
            work.entry_slots,
            work.rows,
            work.masks,
            work.tables,
            scale,
            softcap or 1.0,
            window or 0,
            out.stride(0),
            out.stride(1),
            query.stride(0),
            query.stride(1),
            data.stride(1),
            work.tables.stride(0),
            kv_heads,
            GROUPS=heads // kv_heads,
            HEAD_DIM=dim,
            BLOCK_SIZE=block,
            BLOCK_M=tile.lanes,
            BLOCK_N=tile.keys,
            BLOCK_D=tile.dim,
            WINDOWED=window is not None,
            CAPPED=softcap is not None,
            TREES=len(work.masks) > 0,
            ITEM=ITEM_FIELDS,
            ROW=ROW_FIELDS,
            num_warps=tile.warps,
            num_stages=2,  # not yet measured on a GPU
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """The shape of a program."""

    lanes: int
    keys: int
    dim: int
    warps: int


def tile_of(lanes: int, dim: int, dtype: torch.dtype) -> Tile:
    """As large as registers hold: compiled for sm_80 and sm_90, nothing spills up to 64 lanes of a
    narrow dtype and 32 of float32, for head_dim up to 256. Speed is not yet measured on a GPU.
    """
    lanes = max(_LEAST, 1 << (lanes - 1).bit_length())
    dim = max(_LEAST, 1 << (dim - 1).bit_length())
    narrow = dtype.itemsize < 4
    keys = max(_LEAST, min(64, (1 << 13) // dim)) if narrow else _LEAST
    warps = 8 if lanes * dim >= (1 << 13) or (lanes > _LEAST and not narrow) else 4
    return Tile(lanes, keys, dim, warps)


@triton.jit
def _tanh(x: tl.tensor) -> tl.tensor:
    """To a few units in the last place: a series near 0, where the exponential cancels."""
    square = x * x
    series = 62.0 / 2835.0 - square * (1382.0 / 155925.0)
    series = 2.0 / 15.0 - square * (17.0 / 315.0 - square * series)
    near = x - x * square * (1.0 / 3.0 - square * series)
    power = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - power) / (1.0 + power)
    return tl.where(tl.abs(x) < 0.25, near, tl.where(x < 0.0, -far, far))


@kernel
def _attend_kernel(
    out_ptr: tl.tensor,
    partial_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    query_ptr: tl.tensor,
    key_ptr: tl.tensor,
    value_ptr: tl.tensor,
    count_ptr: tl.tensor,
    items_ptr: tl.tensor,
    entry_rows_ptr: tl.tensor,
    entry_slots_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    masks_ptr: tl.tensor,
    tables_ptr: tl.tensor,
    scale: float,
    softcap: float,
    window: tl.tensor,
    stride_out_row: tl.tensor,
    stride_out_head: tl.tensor,
    stride_query_row: tl.tensor,
    stride_query_head: tl.tensor,
    stride_kv_head: tl.tensor,
    stride_table: tl.tensor,
    kv_heads: tl.tensor,
    GROUPS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
    TREES: tl.constexpr,
    ITEM: tl.constexpr,
    ROW: tl.constexpr,
) -> None:
    """One program an item and key head; lane m is entry m // GROUPS and query head m % GROUPS."""
    program = tl.program_id(0).to(tl.int64)
    item = program // kv_heads
    kv_head = program % kv_heads
    if item >= tl.load(count_ptr):
        return
    item_ptr = items_ptr + item * ITEM
    table_ptr = tables_ptr + tl.load(item_ptr).to(tl.int64) * stride_table
    begin = tl.load(item_ptr + 1)
    end = tl.load(item_ptr + 2)
    first = tl.load(item_ptr + 3)
    entries = tl.load(item_ptr + 4)

    # -- the lanes and what they see --
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    lanes = offs_m // GROUPS < entries
    dims = offs_d < HEAD_DIM
    row = tl.load(entry_rows_ptr + first + offs_m // GROUPS, mask=lanes, other=0).to(tl.int64)
    head = kv_head * GROUPS + offs_m % GROUPS
    limit = tl.load(rows_ptr + row * ROW, mask=lanes, other=0)
    if WINDOWED:
        oldest = tl.load(rows_ptr + row * ROW + 1, mask=lanes, other=0) - window + 1
    if TREES:
        word = tl.load(rows_ptr + row * ROW + 2, mask=lanes, other=0)
        size = tl.load(rows_ptr + row * ROW + 3, mask=lanes, other=0)
    query = tl.load(
        query_ptr
        + row[:, None] * stride_query_row
        + head[:, None] * stride_query_head
        + offs_d[None, :],
        mask=lanes[:, None] & dims[None, :],
        other=0.0,
    )

    # -- over the keys --
    largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for start in range(begin, end, BLOCK_N):
        place = start + offs_n
        inside = place < end
        block = tl.load(table_ptr + place // BLOCK_SIZE, mask=inside, other=0).to(tl.int64)
        slot = block * BLOCK_SIZE + place % BLOCK_SIZE
        offs_kv = kv_head * stride_kv_head + slot * HEAD_DIM
        key = tl.load(
            key_ptr + offs_kv[None, :] + offs_d[:, None],
            mask=inside[None, :] & dims[:, None],
            other=0.0,
        ).to(query.dtype)
        scores = tl.dot(query, key, input_precision="ieee") * scale
        if CAPPED:
            scores = softcap * _tanh(scores / softcap)
        seen = place[None, :] < limit[:, None]
        if WINDOWED:
            seen = seen & (place[None, :] >= oldest[:, None])
        if TREES:
            behind = place[None, :] - limit[:, None]
            known = (behind >= 0) & (behind < size[:, None])
            bits = tl.load(masks_ptr + word[:, None] + (behind >> 5), mask=known, other=0)
            seen = seen | (known & (((bits >> (behind & 31)) & 1) != 0))
        seen = seen & inside[None, :]
        scores = tl.where(seen, scores * 1.4426950408889634, float("-inf"))
        larger = tl.maximum(largest, tl.max(scores, 1))
        safe = tl.where(larger == float("-inf"), 0.0, larger)
        weights = tl.exp2(scores - safe[:, None])
        kept = tl.exp2(largest - safe)
        value = tl.load(
            value_ptr + offs_kv[:, None] + offs_d[None, :],
            mask=inside[:, None] & dims[None, :],
            other=0.0,
        ).to(query.dtype)
        total = total * kept + tl.sum(weights, 1)
        acc = acc * kept[:, None]
        acc += tl.dot(weights.to(query.dtype), value, input_precision="ieee")
        largest = larger

    # -- to the result, or to where it is merged --
    nothing = total == 0.0
    acc = acc / tl.where(nothing, 1.0, total)[:, None]
    slot = tl.load(entry_slots_ptr + first + offs_m // GROUPS, mask=lanes, other=-1).to(tl.int64)
    final = lanes & (slot < 0)
    parted = lanes & (slot >= 0)
    tl.store(
        out_ptr + row[:, None] * stride_out_row + head[:, None] * stride_out_head + offs_d[None, :],
        acc,
        mask=final[:, None] & dims[None, :],
    )
    part = slot * (kv_heads * GROUPS) + head
    tl.store(
        partial_ptr + part[:, None] * HEAD_DIM + offs_d[None, :],
        acc,
        mask=parted[:, None] & dims[None, :],
    )
    sums = tl.where(nothing, float("-inf"), largest + tl.log2(tl.where(nothing, 1.0, total)))
    tl.store(sums_ptr + part, sums, mask=parted)

"""Norms, rotation, and the write of keys and values, in one launch over a layer's projections."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel
from ramet.kernels.gpu.write import largest
from ramet.kernels.rotary import HeadNorms, Rotary


def rotate_and_write(
    joined: Tensor, data: Tensor, slots: Tensor, rotary: Rotary, norms: HeadNorms | None = None
) -> Tensor:
    """The queries `[T, heads, head_dim]`; keys and values go to their slots.

    The formulas are those of `ramet.kernels.rotary.apart`: RMS norm of each query and key head
    where there are `norms` (rounded to the dtype), then dimensions i and i + head_dim / 2 of a head
    turn by the token's i-th angle: (a, b) → (a cos - b sin, b cos + a sin) (arXiv 2104.09864), in
    float32. Values go as they are. What a float8 cache cannot hold becomes its largest number.

    Args:
        joined: `[T, (heads + 2 * kv_heads) * head_dim]`, its rows contiguous.
        data: the cache of the layer `[2, kv_heads, slots + 1, head_dim]`, in any float dtype.
        slots: `[T]` integers, or more of them; where it is -1, nothing is written.
    """
    tokens, wide = joined.shape
    _, kv_heads, _, dim = data.shape
    heads = wide // dim - 2 * kv_heads
    assert dim % 2 == 0, "the dimensions of a head are pairs"
    assert wide % dim == 0 and heads > 0, "queries, and keys and values as the cache holds them"
    assert joined.stride(1) == 1 and data.stride(3) == 1, "a head lies in one piece"
    assert len(slots) >= tokens and slots.is_contiguous(), "a slot for each token"
    assert rotary.cos.shape == rotary.sin.shape == (tokens, dim // 2), "an angle for each pair"
    assert rotary.cos.is_contiguous() and rotary.sin.is_contiguous(), "angles are contiguous"
    query = torch.empty(tokens, heads, dim, dtype=joined.dtype, device=joined.device)
    if tokens:
        _rotate_and_write[(tokens, heads + 2 * kv_heads)](
            joined,
            query,
            data,
            slots,
            rotary.cos,
            rotary.sin,
            joined if norms is None else norms.query,
            joined if norms is None else norms.key,
            0.0 if norms is None else norms.eps,
            joined.stride(0),
            data.stride(0),
            data.stride(1),
            data.stride(2),
            HEADS=heads,
            KV_HEADS=kv_heads,
            HALF=dim // 2,
            BLOCK=triton.next_power_of_2(dim // 2),
            NORMED=norms is not None,
            LARGEST=largest(data.dtype),
            num_warps=1,
        )
    return query


@kernel
def _rotate_and_write(
    joined: tl.tensor,
    query: tl.tensor,
    data: tl.tensor,
    slots: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    query_weight: tl.tensor,
    key_weight: tl.tensor,
    eps: float,
    joined_stride: tl.tensor,
    part_stride: tl.tensor,
    head_stride: tl.tensor,
    slot_stride: tl.tensor,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
    NORMED: tl.constexpr,
    LARGEST: tl.constexpr,
) -> None:
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    pair = tl.arange(0, BLOCK)
    there = pair < HALF
    line = joined + token * joined_stride + head * (2 * HALF)
    first = tl.load(line + pair, mask=there, other=0.0)
    second = tl.load(line + HALF + pair, mask=there, other=0.0)
    if head < HEADS + KV_HEADS:
        if NORMED:
            weight = query_weight if head < HEADS else key_weight
            first, second = _normed(first, second, weight, eps, HALF, BLOCK)
        a, b = first.to(tl.float32), second.to(tl.float32)
        c = tl.load(cos + token * HALF + pair, mask=there, other=0.0)
        s = tl.load(sin + token * HALF + pair, mask=there, other=0.0)
        first = (a * c - b * s).to(second.dtype)
        second = (b * c + a * s).to(first.dtype)
    if head < HEADS:
        out = query + (token * HEADS + head) * (2 * HALF)
        tl.store(out + pair, first, mask=there)
        tl.store(out + HALF + pair, second, mask=there)
    else:
        slot = tl.load(slots + token).to(tl.int64)
        part = (head - HEADS) // KV_HEADS
        at = (head - HEADS) % KV_HEADS
        written = there & (slot >= 0)
        cell = data + part.to(tl.int64) * part_stride + at.to(tl.int64) * head_stride
        cell += slot * slot_stride
        tl.store(cell + pair, _within(first, LARGEST), mask=written)
        tl.store(cell + HALF + pair, _within(second, LARGEST), mask=written)


@kernel
def _normed(
    first: tl.tensor,
    second: tl.tensor,
    weight: tl.tensor,
    eps: float,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    pair = tl.arange(0, BLOCK)
    a, b = first.to(tl.float32), second.to(tl.float32)
    scale = 1.0 / tl.sqrt_rn((tl.sum(a * a) + tl.sum(b * b)) / (2 * HALF) + eps)
    low = tl.load(weight + pair, mask=pair < HALF, other=0.0).to(tl.float32)
    high = tl.load(weight + HALF + pair, mask=pair < HALF, other=0.0).to(tl.float32)
    return (a * scale * low).to(first.dtype), (b * scale * high).to(second.dtype)


@kernel
def _within(x: tl.tensor, LARGEST: tl.constexpr) -> tl.tensor:
    """The numbers in float32, cut off where the cache's dtype ends, if it does."""
    wide = x.to(tl.float32)
    if LARGEST > 0:
        wide = tl.clamp(wide, -LARGEST, LARGEST)
    return wide

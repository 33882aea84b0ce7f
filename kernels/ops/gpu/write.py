"""Writes new keys and values through the slot mapping.

    cache[0, :, slot[t]] = key[t],  cache[1, :, slot[t]] = value[t]    for slot[t] ≥ 0

(PagedAttention, arXiv 2309.06180, section 4.3.) What goes into a float8 cache is cut off at the
largest number that float8 has: beyond it there is only NaN.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel


def largest(dtype: torch.dtype) -> float:
    """What a cache of this dtype is cut off at; 0: at nothing."""
    return torch.finfo(dtype).max if dtype == torch.float8_e4m3fn else 0.0


def write(data: Tensor, slots: Tensor, key: Tensor, value: Tensor) -> None:
    """Store the keys and values of a step in one layer.

    Args:
        data: the cache of the layer `[2, kv_heads, slots + 1, head_dim]`.
        slots: `[T]` int32 or more of them; −1 is not written.
        key, value: `[T, kv_heads, head_dim]`, any strides but 1 within a head.
    """
    tokens, kv_heads, dim = key.shape
    assert value.shape == key.shape, "a value for each key"
    assert data.shape[0] == 2 and data.shape[1] == kv_heads and data.shape[3] == dim
    assert len(slots) >= tokens, "a slot for each token"
    if not tokens:
        return
    assert dim == 1 or key.stride(2) == value.stride(2) == 1, "a head lies in one piece"
    _write_kernel[(tokens,)](
        data,
        slots,
        key,
        value,
        data.stride(0),
        data.stride(1),
        data.stride(2),
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        kv_heads,
        HEAD_DIM=dim,
        LARGEST=largest(data.dtype),
        BLOCK_H=triton.next_power_of_2(kv_heads),
        BLOCK_D=triton.next_power_of_2(dim),
    )


@kernel
def _write_kernel(
    data_ptr: tl.tensor,
    slots_ptr: tl.tensor,
    key_ptr: tl.tensor,
    value_ptr: tl.tensor,
    stride_data_part: tl.tensor,
    stride_data_head: tl.tensor,
    stride_data_slot: tl.tensor,
    stride_key_row: tl.tensor,
    stride_key_head: tl.tensor,
    stride_value_row: tl.tensor,
    stride_value_head: tl.tensor,
    kv_heads: tl.tensor,
    HEAD_DIM: tl.constexpr,
    LARGEST: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """One program a token: all its heads."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots_ptr + row).to(tl.int64)
    if slot < 0:
        return
    offs_h = tl.arange(0, BLOCK_H).to(tl.int64)[:, None]
    offs_d = tl.arange(0, BLOCK_D)[None, :]
    mask = (offs_h < kv_heads) & (offs_d < HEAD_DIM)
    to_ptr = data_ptr + offs_h * stride_data_head + slot * stride_data_slot + offs_d
    key = tl.load(key_ptr + row * stride_key_row + offs_h * stride_key_head + offs_d, mask=mask)
    value = tl.load(
        value_ptr + row * stride_value_row + offs_h * stride_value_head + offs_d, mask=mask
    )
    if LARGEST > 0:
        key = tl.clamp(key.to(tl.float32), -LARGEST, LARGEST)
        value = tl.clamp(value.to(tl.float32), -LARGEST, LARGEST)
    tl.store(to_ptr, key, mask=mask)
    tl.store(to_ptr + stride_data_part, value, mask=mask)

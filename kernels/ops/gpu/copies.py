"""Copies the first tokens of blocks to other blocks, in all layers and heads at once.

    cache[…, target · block : target · block + tokens] = cache[…, source · block : … + tokens]

(Copy-on-write of PagedAttention, arXiv 2309.06180, section 4.4.) No target is a source, so the
order does not matter.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel

COPY_FIELDS = 3  # source block, target block, tokens
_BYTES = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
_CHUNK = 1024  # numbers that a program moves at a time; not yet measured on a GPU


def copy_blocks(data: Tensor, copies: Tensor, block: int) -> None:
    """Perform copies.

    Args:
        data: the cache `[layers, 2, kv_heads, slots + 1, head_dim]`, contiguous; any dtype, since
            bits are moved.
        copies: `[C, COPY_FIELDS]` int32 on the same device.
        block: tokens of a block.
    """
    layers, parts, kv_heads, _, dim = data.shape
    assert data.is_contiguous(), "a block of a head lies in one piece"
    assert copies.shape[1] == COPY_FIELDS
    if not len(copies):
        return
    _copy_kernel[(len(copies), layers * parts * kv_heads)](
        data.view(_BYTES[data.dtype.itemsize]),
        copies,
        data.stride(2),
        block * dim,
        dim,
        FIELDS=COPY_FIELDS,
        CHUNK=min(_CHUNK, triton.next_power_of_2(block * dim)),
    )


@kernel
def _copy_kernel(
    data_ptr: tl.tensor,
    copies_ptr: tl.tensor,
    stride_data_head: tl.tensor,
    stride_data_block: tl.tensor,
    stride_data_slot: tl.tensor,
    FIELDS: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    """One program a copy, layer, part and head; what it moves lies in one piece."""
    copy_ptr = copies_ptr + tl.program_id(0).to(tl.int64) * FIELDS
    head_ptr = data_ptr + tl.program_id(1).to(tl.int64) * stride_data_head
    source = tl.load(copy_ptr).to(tl.int64)
    target = tl.load(copy_ptr + 1).to(tl.int64)
    size = tl.load(copy_ptr + 2) * stride_data_slot
    offs = tl.arange(0, CHUNK)
    for start in range(0, size, CHUNK):
        mask = start + offs < size
        moved = tl.load(head_ptr + source * stride_data_block + start + offs, mask=mask)
        tl.store(head_ptr + target * stride_data_block + start + offs, moved, mask=mask)

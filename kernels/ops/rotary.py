"""What happens to the joined projections of a layer before attention: norms, rotation, parting.

Rotary position embedding (RoFormer, arXiv 2104.09864, section 3.2.2) in the layout of Hugging Face
checkpoints: dimension i of a head and dimension i + head_dim / 2 are a pair, turned by one angle.
`apart` is the formula in torch; backends with a kernel of their own are held against it by test.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rotary:
    """The angles of a step, by token and pair; a factor on the result is in both."""

    cos: Tensor  # [T, head_dim / 2] float32
    sin: Tensor


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """RMS norms of every query head and every key head, before the rotation (Qwen3)."""

    query: Tensor  # [head_dim] weights
    key: Tensor
    eps: float


def apart(
    joined: Tensor, kv_heads: int, head_dim: int, rotary: Rotary, norms: HeadNorms | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries `[T, heads, head_dim]`, keys and values `[T, kv_heads, head_dim]`, ready to attend.

    Args:
        joined: `[T, (heads + 2 * kv_heads) * head_dim]`: queries, keys, values of each token.
    """
    every = joined.unflatten(1, (-1, head_dim))
    heads = every.shape[1] - 2 * kv_heads
    query, key, value = every.split((heads, kv_heads, kv_heads), dim=1)
    if norms is not None:
        query = F.rms_norm(query, (head_dim,), norms.query, norms.eps)
        key = F.rms_norm(key, (head_dim,), norms.key, norms.eps)
    return _rotated(query, rotary), _rotated(key, rotary), value


def _rotated(heads: Tensor, rotary: Rotary) -> Tensor:
    cos, sin = rotary.cos.unsqueeze(1), rotary.sin.unsqueeze(1)
    first, second = heads.float().chunk(2, dim=-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat(turned, dim=-1).to(heads.dtype)

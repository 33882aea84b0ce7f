"""The protocol of an attention backend, and the one place that chooses one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ramet.kernels import extension
from ramet.kernels.layout import KVCache, Step
from ramet.kernels.rotary import HeadNorms, Rotary


class Backend(Protocol):
    """What runs attention over one key/value cache. A plan is valid for the step it was made of."""

    cache: KVCache

    def plan(self, step: Step) -> Any:
        """Work out, once a step, what every layer will repeat."""
        ...

    def write(self, plan: Any, layer: int, key: Tensor, value: Tensor) -> None:
        """Store `[T, kv_heads, head_dim]` keys and values, in the cache's dtype or in float32, in
        the step's slots."""
        ...

    def write_joined(
        self,
        plan: Any,
        layer: int,
        joined: Tensor,
        rotary: Rotary,
        norms: HeadNorms | None = None,
    ) -> Tensor:
        """Norm and rotate queries and keys, store keys and values, give the queries.

        What a token gets depends on no other token, to the bit.

        Args:
            joined: `[T, (heads + 2 * kv_heads) * head_dim]` in the cache's dtype, or in float32:
                each token's queries, keys and values, as one projection makes them. `head_dim` is
                even.

        Returns:
            `[T, heads, head_dim]`, for `attend`.
        """
        ...

    def attend(
        self,
        plan: Any,
        layer: int,
        query: Tensor,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Causal attention of `query` over each sequence's own context.

        Args:
            query: `[T, heads, head_dim]`; `heads` is a multiple of the cache's `kv_heads` (GQA:
                query head h reads key head `h // (heads // kv_heads)`).
            scale: multiplies the scores.
            window: a token sees itself and the `window - 1` tokens before it (sliding window).
            softcap: scores become `softcap * tanh(scores / softcap)` (Gemma 2, section 2).

        Returns:
            `[T, heads, head_dim]`, in the query's dtype.
        """
        ...

    def copy_blocks(self, copies: Sequence[tuple[int, int, int]]) -> None:
        """Perform `(source, target, tokens)` copies in every layer; no target is a source."""
        ...


def backend_for(
    cache: KVCache, folder: Path | None = None, dtype: torch.dtype | None = None
) -> Backend:
    """The backend for the device the cache lies on.

    Args:
        folder: where compiled kernels are kept; None: in the user's cache folder.
        dtype: of queries; None: the cache's.

    Raises:
        ValueError: no backend serves that device.
    """
    device: torch.device = cache.layout.device
    if device.type == "cuda":
        from ramet.kernels.gpu.backend import GpuBackend

        return GpuBackend(cache, dtype=dtype)
    if device.type != "cpu":
        raise ValueError(f"no attention backend for device {device}; use device='cpu' or 'cuda'")
    if extension.loaded(folder):
        from ramet.kernels.compiled import CompiledBackend

        return CompiledBackend(cache)
    from ramet.kernels.cpu import CpuBackend

    return CpuBackend(cache)

"""What the runner needs of a model, whatever runs it."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ramet.kernels import Backend, HeadNorms, Rotary
from ramet.runtime.devices import CPU


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The numbers that the cache, the scheduler and the sampler are sized by."""

    layers: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int  # tokens the model was trained to hold, prompt and output together
    eos: frozenset[int]
    dtype: torch.dtype
    name: str
    device: torch.device = CPU


@dataclass(frozen=True, slots=True)
class PagedAttention:
    """Attention of one step: a backend with the plan it made."""

    backend: Backend
    plan: Any

    def __call__(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Write `[T, kv_heads, head_dim]` keys and values, then attend; see `Backend.attend`."""
        self.backend.write(self.plan, layer, key, value)
        return self.backend.attend(
            self.plan, layer, query, scale=scale, window=window, softcap=softcap
        )

    def of_joined(
        self,
        layer: int,
        joined: Tensor,
        rotary: Rotary,
        norms: HeadNorms | None,
        *,
        scale: float,
        window: int | None = None,
    ) -> Tensor:
        """The same from queries, keys and values as one projection; see `Backend.write_joined`."""
        query = self.backend.write_joined(self.plan, layer, joined, rotary, norms)
        return self.backend.attend(self.plan, layer, query, scale=scale, window=window)


class Model(Protocol):
    """Weights and the arithmetic of one forward pass."""

    shape: ModelShape

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        """Logits `[R, vocab]` float32 after the batch rows `rows` `[R]`.

        Args:
            tokens: `[T]` int64, the batch end to end.
            positions: `[T]` int64, each token's place in its own sequence.
            attention: reads and writes the cache.
            rows: `[R]` int64 rows of the batch whose logits are wanted; may be empty.
        """
        ...

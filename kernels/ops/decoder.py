"""The layers of a decoder in one call of `csrc/decoder.cpp`.

One by one they are six operators a layer, and between two of them the interpreter's lock is taken:
whoever else runs Python holds up the step.
"""

import torch
from torch import Tensor

from ramet.kernels.compiled import CompiledBackend, Plan
from ramet.kernels.rotary import HeadNorms, Rotary

Packed = tuple[Tensor, Tensor | None, int, Tensor | None]
"""A linear layer of `float32`, `bfloat16` or `int8`: the packed weight, its scales (int8 alone has
them), outputs, and bias."""


class Decoder:
    """Layers of attention and a gated feed-forward, each after an RMS norm (arXiv 2302.13971).

    What comes out is what the operators of the same names give one after the other, to the bit.
    """

    def __init__(self, heads: int, *, eps: float, scale: float) -> None:
        """`heads`: of queries; `eps`: of all norms; `scale` multiplies the scores."""
        self._heads = heads
        self._layers = torch.classes.ramet.Decoder(eps, scale)
        self._windows: set[bool] = set()  # whether layers have one

    def add(
        self,
        attention_norm: Tensor,
        qkv: Packed,
        head_norms: HeadNorms | None,
        out: Packed,
        mlp_norm: Tensor,
        gate_up: Packed,
        down: Packed,
        window: int | None,
    ) -> None:
        """The next layer; norms are float32."""
        query, key = (head_norms.query, head_norms.key) if head_norms else (None, None)
        self._windows.add(window is not None)
        self._layers.add(attention_norm, qkv, query, key, out, mlp_norm, gate_up, down, window or 0)

    def __call__(
        self, hidden: Tensor, rotary: Rotary, backend: CompiledBackend, plan: Plan
    ) -> Tensor:
        """Float32 `[T, hidden]` out of the same, before the last norm; keys and values are
        written."""
        cuts = {
            windowed: backend.cut(plan, self._heads, share=not windowed)
            for windowed in self._windows
        }
        full, windowed = (cuts.get(each) or cuts[not each] for each in (False, True))
        layout = backend.cache.layout
        return self._layers.forward(
            hidden,
            rotary.cos,
            rotary.sin,
            plan.step.slots,
            backend.cache.data,
            plan.step.block_tables,
            [full.units, full.passes, full.items],
            [windowed.units, windowed.passes, windowed.items],
            plan.ancestors,
            plan.depths,
            layout.block_size,
        )

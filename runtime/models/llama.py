"""The native decoder: Llama 2 and 3, Mistral, Qwen2, Qwen3, SmolLM and their like.

Pre-norm layers of attention and a gated feed-forward, rotary positions, grouped queries (arXiv
2302.13971, 2307.09288). The families differ by a bias here and a norm there, which the checkpoint
shows by having the tensor or not. A forward is a dozen large operations a layer over all tokens of
the batch: linear layers that read the same input are one product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.kernels import HeadNorms, Rotary
from ramet.kernels.compiled import CompiledBackend
from ramet.kernels.decoder import Decoder
from ramet.runtime.errors import ModelError
from ramet.runtime.models.config import DecoderConfig
from ramet.runtime.models.layers import RotaryEmbedding
from ramet.runtime.models.linear import CompiledLinear, FloatLinear, Linear, LinearMaker
from ramet.runtime.models.model import ModelShape, PagedAttention

Weights = Callable[[str], Tensor | None]  # a checkpoint's tensor by name, None if it has none


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer's weights."""

    attention_norm: Tensor
    qkv: Linear  # hidden → queries, keys, values
    head_norms: HeadNorms | None
    out: Linear
    mlp_norm: Tensor
    gate_up: Linear  # hidden → gate, up
    down: Linear
    window: int | None


class LlamaDecoder:
    """Runs a varlen batch through the layers."""

    def __init__(
        self,
        config: DecoderConfig,
        shape: ModelShape,
        weights: Weights,
        make: LinearMaker = FloatLinear,
    ) -> None:
        self.shape = shape
        self._config = config
        size = (config.vocab, config.hidden)
        self._embedding = _need(weights, "model.embed_tokens.weight", *size)
        self._layers = [_layer(config, weights, make, i) for i in range(config.layers)]
        self._norm = _need(weights, "model.norm.weight", config.hidden)
        self._head = make(
            self._embedding if config.tied else _need(weights, "lm_head.weight", *size)
        )
        self._rotary = RotaryEmbedding(config.rope, config.head_dim, config.context, shape.device)
        self._scale = config.head_dim**-0.5
        self._compiled = _compiled(self._layers, config.heads, self._eps, self._scale)

    @torch.inference_mode()
    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        hidden = F.embedding(tokens, self._embedding)
        rotary = self._rotary.angles(positions)
        hidden = self._through(hidden, rotary, attention)
        wanted = hidden.index_select(0, rows)
        return self._head.of_norm(wanted, self._norm, self._eps).float()

    def _through(self, hidden: Tensor, rotary: Rotary, attention: PagedAttention) -> Tensor:
        """All layers: `[T, hidden]` out of the same."""
        if self._compiled is not None and isinstance(attention.backend, CompiledBackend):
            return self._compiled(hidden, rotary, attention.backend, attention.plan)
        for index, layer in enumerate(self._layers):
            mixed = self._attend(index, layer, hidden, rotary, attention)
            hidden = layer.out.added_to(hidden, mixed)
            gate_up = layer.gate_up.of_norm(hidden, layer.mlp_norm, self._eps)
            hidden = layer.down.of_gate_added_to(hidden, gate_up)
        return hidden

    def _attend(
        self, index: int, layer: Layer, hidden: Tensor, rotary: Rotary, attention: PagedAttention
    ) -> Tensor:
        """`[T, heads * head_dim]`"""
        joined = layer.qkv.of_norm(hidden, layer.attention_norm, self._eps)
        out = attention.of_joined(
            index, joined, rotary, layer.head_norms, scale=self._scale, window=layer.window
        )
        return out.flatten(1)

    @property
    def _eps(self) -> float:
        return self._config.norm_eps


def _layer(config: DecoderConfig, weights: Weights, make: LinearMaker, index: int) -> Layer:
    prefix = f"model.layers.{index}."
    hidden, wide, dim = config.hidden, config.intermediate, config.head_dim
    queries, keys = config.heads * dim, config.kv_heads * dim

    def norm(name: str, size: int) -> Tensor:
        return _need(weights, f"{prefix}{name}.weight", size)

    def head_norms() -> HeadNorms:
        query, key = norm("self_attn.q_norm", dim), norm("self_attn.k_norm", dim)
        return HeadNorms(query, key, config.norm_eps)

    def joined(kind: str, outputs: dict[str, int], *inputs: int) -> Tensor:
        parts = outputs.items()
        return torch.cat(
            [_need(weights, f"{prefix}{name}.{kind}", size, *inputs) for name, size in parts]
        )

    def linear(inputs: int, outputs: dict[str, int]) -> Linear:
        """Projections of the same input, by name and size, as one."""
        biased = any(weights(f"{prefix}{name}.bias") is not None for name in outputs)
        bias = joined("bias", outputs) if biased else None
        return make(joined("weight", outputs, inputs), bias)

    qkv = {"self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys}
    return Layer(
        attention_norm=norm("input_layernorm", hidden),
        qkv=linear(hidden, qkv),
        head_norms=head_norms() if config.qk_norm else None,
        out=linear(queries, {"self_attn.o_proj": hidden}),
        mlp_norm=norm("post_attention_layernorm", hidden),
        gate_up=linear(hidden, {"mlp.gate_proj": wide, "mlp.up_proj": wide}),
        down=linear(wide, {"mlp.down_proj": hidden}),
        window=config.windows[index],
    )


def _compiled(layers: Sequence[Layer], heads: int, eps: float, scale: float) -> Decoder | None:
    """The same layers as one operator, where each of their products is on a kernel of our own."""
    decoder: Decoder | None = None
    for layer in layers:
        linears = (layer.qkv, layer.out, layer.gate_up, layer.down)
        packed = [each.packed for each in linears if isinstance(each, CompiledLinear)]
        if len(packed) < len(linears):
            return None
        decoder = decoder or Decoder(heads, eps=eps, scale=scale)
        qkv, out, gate_up, down = packed
        decoder.add(
            layer.attention_norm,
            qkv,
            layer.head_norms,
            out,
            layer.mlp_norm,
            gate_up,
            down,
            layer.window,
        )
    return decoder


def _need(weights: Weights, name: str, *shape: int) -> Tensor:
    found = weights(name)
    if found is None:
        raise ModelError(f"the checkpoint has no tensor {name!r}")
    if found.shape != shape:
        raise ModelError(
            f"tensor {name!r} has shape {tuple(found.shape)}, but config.json makes it {shape}"
        )
    return found

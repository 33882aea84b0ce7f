"""The native decoder: Llama 2 and 3, Mistral, Qwen2, Qwen3, SmolLM and their like.

Pre-norm layers of attention and a gated feed-forward, rotary positions, grouped queries (arXiv
2302.13971, 2307.09288). The families differ by a bias here and a norm there, which the checkpoint
shows by having the tensor or not. A forward is a dozen large operations a layer over all tokens of
the batch: linear layers that read the same input are one product.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.runtime.errors import ModelError
from ramet.runtime.models.config import DecoderConfig
from ramet.runtime.models.layers import Linear, RotaryEmbedding, interleave, rms_norm, rotate
from ramet.runtime.models.model import ModelShape, PagedAttention

Weights = Callable[[str], Tensor | None]  # a checkpoint's tensor by name, None if it has none


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer's weights."""

    attention_norm: Tensor
    qkv: Linear  # hidden → queries, keys, values
    query_norm: Tensor | None  # [head_dim]
    key_norm: Tensor | None
    out: Linear
    mlp_norm: Tensor
    gate_up: Linear  # hidden → gate, up
    down: Linear
    window: int | None


class LlamaDecoder:
    """Runs a varlen batch through the layers."""

    def __init__(self, config: DecoderConfig, shape: ModelShape, weights: Weights) -> None:
        self.shape = shape
        self._config = config
        self._embedding = _need(weights, "model.embed_tokens.weight")
        self._layers = [_layer(config, weights, i) for i in range(config.layers)]
        self._norm = _need(weights, "model.norm.weight")
        head = None if config.tied else weights("lm_head.weight")
        self._head = Linear(self._embedding if head is None else head)
        self._rotary = RotaryEmbedding(config.rope, config.head_dim, config.context)
        self._scale = config.head_dim**-0.5

    @torch.inference_mode()
    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        hidden = F.embedding(tokens, self._embedding)
        angles = self._rotary.angles(positions)
        for index, layer in enumerate(self._layers):
            mixed = self._attend(index, layer, hidden, angles, attention)
            hidden = layer.out.added_to(hidden, mixed)
            gate, up = layer.gate_up(rms_norm(hidden, layer.mlp_norm, self._eps)).chunk(2, dim=-1)
            hidden = layer.down.added_to(hidden, F.silu(gate).mul_(up))
        wanted = hidden.index_select(0, rows)
        return self._head(rms_norm(wanted, self._norm, self._eps)).float()

    def _attend(
        self, index: int, layer: Layer, hidden: Tensor, angles: Tensor, attention: PagedAttention
    ) -> Tensor:
        """`[T, heads * head_dim]`"""
        config = self._config
        joined = layer.qkv(rms_norm(hidden, layer.attention_norm, self._eps))
        every = joined.view(len(joined), -1, config.head_dim)
        rotated, value = every.split((config.heads + config.kv_heads, config.kv_heads), dim=1)
        if layer.query_norm is not None and layer.key_norm is not None:
            query, key = rotated.split((config.heads, config.kv_heads), dim=1)
            query = rms_norm(query, layer.query_norm, self._eps)
            rotated = torch.cat((query, rms_norm(key, layer.key_norm, self._eps)), dim=1)
        query, key = rotate(rotated, angles).split((config.heads, config.kv_heads), dim=1)
        out = attention(index, query, key, value, scale=self._scale, window=layer.window)
        return out.flatten(1)

    @property
    def _eps(self) -> float:
        return self._config.norm_eps


def _layer(config: DecoderConfig, weights: Weights, index: int) -> Layer:
    prefix = f"model.layers.{index}."
    dim = config.head_dim

    def tensor(name: str) -> Tensor:
        return _need(weights, f"{prefix}{name}.weight")

    def rotated(rows: Tensor) -> Tensor:
        return interleave(rows, dim)

    def projections(kind: str) -> list[Tensor | None]:
        return [weights(f"{prefix}self_attn.{p}_proj.{kind}") for p in "qkv"]

    query, key, value = (tensor(f"self_attn.{p}_proj") for p in "qkv")
    biases = [bias for bias in projections("bias") if bias is not None]
    qkv_bias = None
    if biases:
        qkv_bias = torch.cat((rotated(biases[0]), rotated(biases[1]), biases[2]))
    return Layer(
        attention_norm=tensor("input_layernorm"),
        qkv=Linear(torch.cat((rotated(query), rotated(key), value)), qkv_bias),
        query_norm=rotated(tensor("self_attn.q_norm")) if config.qk_norm else None,
        key_norm=rotated(tensor("self_attn.k_norm")) if config.qk_norm else None,
        out=Linear(tensor("self_attn.o_proj"), weights(f"{prefix}self_attn.o_proj.bias")),
        mlp_norm=tensor("post_attention_layernorm"),
        gate_up=Linear(
            torch.cat((tensor("mlp.gate_proj"), tensor("mlp.up_proj"))),
            _joined(weights, f"{prefix}mlp.gate_proj.bias", f"{prefix}mlp.up_proj.bias"),
        ),
        down=Linear(tensor("mlp.down_proj"), weights(f"{prefix}mlp.down_proj.bias")),
        window=config.windows[index],
    )


def _joined(weights: Weights, *names: str) -> Tensor | None:
    parts = [part for part in map(weights, names) if part is not None]
    return torch.cat(parts) if parts else None


def _need(weights: Weights, name: str) -> Tensor:
    found = weights(name)
    if found is None:
        raise ModelError(f"the checkpoint has no tensor {name!r}")
    return found

"""The shape of a decoder, read from a Hugging Face `config.json`. No tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ramet.runtime.errors import ModelError

# Families the native decoder runs; everything else goes through transformers.
NATIVE = frozenset({"llama", "mistral", "qwen2", "qwen3"})


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding parameters (arXiv 2104.09864); `scaling` as in Hugging Face configs."""

    theta: float
    kind: str
    scaling: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """A decoder of the Llama family."""

    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    context: int
    tied: bool  # the output matrix is the embedding
    qk_norm: bool  # RMS norm of each query and key head (Qwen3)
    windows: tuple[int | None, ...]  # sliding window of each layer, None for full attention
    rope: Rope

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> "DecoderConfig":
        """Read a `config.json` of a native family.

        Raises:
            ModelError: a field is missing, or asks for something the native decoder does not do.
        """
        try:
            heads = int(raw["num_attention_heads"])
            config = DecoderConfig(
                vocab=int(raw["vocab_size"]),
                hidden=int(raw["hidden_size"]),
                intermediate=int(raw["intermediate_size"]),
                layers=int(raw["num_hidden_layers"]),
                heads=heads,
                kv_heads=int(raw.get("num_key_value_heads") or heads),
                head_dim=int(raw.get("head_dim") or raw["hidden_size"] // heads),
                norm_eps=float(raw["rms_norm_eps"]),
                context=int(raw["max_position_embeddings"]),
                tied=bool(raw.get("tie_word_embeddings", False)),
                qk_norm=raw["model_type"] == "qwen3",
                windows=_windows(raw),
                rope=_rope(raw),
            )
        except KeyError as error:
            raise ModelError(f"config.json has no {error.args[0]!r}") from None
        if raw.get("hidden_act", "silu") not in ("silu", "swish"):
            raise ModelError(f"activation {raw['hidden_act']!r} is not the Llama family's silu")
        return config


def is_native(raw: Mapping[str, Any]) -> bool:
    """Whether the native decoder runs this configuration exactly."""
    if raw.get("model_type") not in NATIVE or raw.get("quantization_config"):
        return False
    supported = _rope(raw).kind in ("default", "linear", "llama3", "yarn")
    return supported and raw.get("hidden_act", "silu") in ("silu", "swish")


def _rope(raw: Mapping[str, Any]) -> Rope:
    """transformers 5 writes `rope_parameters`, earlier ones `rope_theta` and `rope_scaling`."""
    scaling = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    theta = float(scaling.get("rope_theta") or raw.get("rope_theta") or 10000.0)
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    return Rope(theta, kind, scaling)


def _windows(raw: Mapping[str, Any]) -> tuple[int | None, ...]:
    layers = int(raw["num_hidden_layers"])
    window = raw.get("sliding_window")
    if window is None or raw.get("use_sliding_window") is False:
        return (None,) * layers
    kinds = raw.get("layer_types")
    if kinds is None and "max_window_layers" in raw:
        first = int(raw["max_window_layers"])
        return tuple(int(window) if layer >= first else None for layer in range(layers))
    if kinds is None:
        return (int(window),) * layers
    return tuple(int(window) if kind == "sliding_attention" else None for kind in kinds)

"""The shape of a decoder, read from a Hugging Face `config.json`. No tensors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ramet.runtime.errors import ModelError

# Families the native decoder runs; everything else goes through transformers.
NATIVE = frozenset({"llama", "mistral", "qwen2", "qwen3"})

# Rotary scalings the native decoder knows, and the numbers each cannot do without.
ROPES = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": (),
}

# What transformers takes for a sliding window that a configuration does not mention.
WINDOW = 4096
WINDOWS_FROM_LAYER = 28


@contextmanager
def _reading() -> Iterator[None]:
    """What goes wrong in here is the file's fault."""
    try:
        yield
    except KeyError as error:
        raise ModelError(f"config.json has no {error.args[0]!r}") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(f"config.json makes no sense: {error}") from error


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
    @_reading()
    def from_dict(raw: Mapping[str, Any]) -> "DecoderConfig":
        """Read a `config.json` of a native family.

        Raises:
            ModelError: a field is missing or senseless.
        """
        heads = int(raw["num_attention_heads"])
        kv_heads = int(raw.get("num_key_value_heads") or heads)
        if kv_heads < 1 or heads % kv_heads:
            raise ModelError(f"config.json shares {kv_heads} key heads among {heads} query heads")
        return DecoderConfig(
            vocab=int(raw["vocab_size"]),
            hidden=int(raw["hidden_size"]),
            intermediate=int(raw["intermediate_size"]),
            layers=int(raw["num_hidden_layers"]),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=int(raw.get("head_dim") or raw["hidden_size"] // heads),
            norm_eps=float(raw["rms_norm_eps"]),
            context=int(raw["max_position_embeddings"]),
            tied=bool(raw.get("tie_word_embeddings", False)),
            qk_norm=raw["model_type"] == "qwen3",
            windows=_windows(raw),
            rope=_rope(raw),
        )


@_reading()
def is_native(raw: Mapping[str, Any]) -> bool:
    """Whether the native decoder runs this configuration exactly."""
    if raw.get("model_type") not in NATIVE or raw.get("quantization_config"):
        return False
    return _rope(raw).kind in ROPES and raw.get("hidden_act", "silu") in ("silu", "swish")


def _rope(raw: Mapping[str, Any]) -> Rope:
    """transformers 5 writes `rope_parameters`, earlier ones `rope_theta` and `rope_scaling`."""
    scaling = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    theta = float(scaling.get("rope_theta") or raw.get("rope_theta") or 10000.0)
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    for number in ROPES.get(kind, ()):
        float(scaling[number])
    return Rope(theta, kind, scaling)


def _windows(raw: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Llama never has windows, Mistral unless it says null, Qwen only where it says so twice."""
    layers, family = int(raw["num_hidden_layers"]), raw["model_type"]
    window = raw.get("sliding_window", WINDOW)
    asked = family == "mistral" or (family != "llama" and raw.get("use_sliding_window"))
    if not asked or window is None:
        return (None,) * layers
    kinds = raw.get("layer_types")
    if kinds is None:
        first = 0 if family == "mistral" else int(raw.get("max_window_layers", WINDOWS_FROM_LAYER))
        kinds = ["full_attention"] * first + ["sliding_attention"] * layers
    return tuple(int(window) if kinds[i] == "sliding_attention" else None for i in range(layers))

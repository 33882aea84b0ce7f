"""The small layers of a decoder: RMS norm and rotary embedding."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.kernels import Rotary
from ramet.runtime.devices import CPU
from ramet.runtime.models.config import Rope


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last dimension (arXiv 1910.07467)."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


class RotaryEmbedding:
    """The angles that pairs of a head's dimensions are rotated by; they grow with the position."""

    def __init__(self, rope: Rope, head_dim: int, context: int, device: torch.device = CPU) -> None:
        plain, self._scale = frequencies(rope, head_dim, context)
        self._frequencies = plain.to(device)

    def angles(self, positions: Tensor) -> Rotary:
        """Of positions `[T]`."""
        angle = positions.float().unsqueeze(1) * self._frequencies
        cos, sin = angle.cos(), angle.sin()
        return (
            Rotary(cos, sin) if self._scale == 1 else Rotary(cos * self._scale, sin * self._scale)
        )


def frequencies(rope: Rope, head_dim: int, context: int) -> tuple[Tensor, float]:
    """Angle per position of each pair, `[head_dim / 2]` float32, and a factor on the result."""
    plain = 1.0 / (rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    return _SCALINGS[rope.kind](plain, rope, context)


def _default(plain: Tensor, rope: Rope, context: int) -> tuple[Tensor, float]:
    return plain, 1.0


def _linear(plain: Tensor, rope: Rope, context: int) -> tuple[Tensor, float]:
    """Position interpolation (arXiv 2306.15595)."""
    return plain / float(rope.scaling["factor"]), 1.0


def _llama3(plain: Tensor, rope: Rope, context: int) -> tuple[Tensor, float]:
    """Llama 3.1: long wavelengths are stretched, short ones kept, those between blended."""
    factor = float(rope.scaling["factor"])
    low, high = (float(rope.scaling[f"{end}_freq_factor"]) for end in ("low", "high"))
    trained = float(rope.scaling["original_max_position_embeddings"])
    turns = trained * plain / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return plain * kept + plain / factor * (1 - kept), 1.0


def _yarn(plain: Tensor, rope: Rope, context: int) -> tuple[Tensor, float]:
    """YaRN (arXiv 2309.00071, section 3)."""
    raw = rope.scaling
    trained = float(raw.get("original_max_position_embeddings") or context)
    factor = float(raw.get("factor") or context / trained)
    fast, slow = float(raw.get("beta_fast") or 32), float(raw.get("beta_slow") or 1)
    dim = plain.numel() * 2

    def pair_of(turns: float) -> float:
        return dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = pair_of(fast), pair_of(slow)
    if raw.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = (torch.arange(dim // 2, dtype=torch.float32) - low) / max(high - low, 0.001)
    kept = 1 - ramp.clamp(0, 1)
    scale = raw.get("attention_factor")
    if scale is None:
        mscale, everywhere = raw.get("mscale"), raw.get("mscale_all_dim")
        if mscale and everywhere:
            scale = _yarn_scale(factor, mscale) / _yarn_scale(factor, everywhere)
        else:
            scale = _yarn_scale(factor, 1.0)
    return plain / factor * (1 - kept) + plain * kept, float(scale)


def _yarn_scale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


_SCALINGS: dict[str, Callable[[Tensor, Rope, int], tuple[Tensor, float]]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}

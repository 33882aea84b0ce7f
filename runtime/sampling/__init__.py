"""From logits to tokens: rows that own their state, processors, and the draw."""

from ramet.runtime.sampling.continuations import Continuations, continuations
from ramet.runtime.sampling.healing import Healing, Spellings
from ramet.runtime.sampling.keys import sample_key
from ramet.runtime.sampling.row import SamplingRow
from ramet.runtime.sampling.sampler import Draw, Sampler

__all__ = [
    "Continuations",
    "Draw",
    "Healing",
    "Sampler",
    "SamplingRow",
    "Spellings",
    "continuations",
    "sample_key",
]

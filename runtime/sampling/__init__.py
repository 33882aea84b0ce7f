"""From logits to tokens: rows that own their state, processors, and the draw."""

from ramet.runtime.sampling.keys import sample_key
from ramet.runtime.sampling.row import SamplingRow
from ramet.runtime.sampling.sampler import Draw, Sampler

__all__ = ["Draw", "Sampler", "SamplingRow", "sample_key"]

"""SGLang's name for `ramet.compat.sglang.backend.unavailable`."""

from ramet.compat.sglang.backend.unavailable import VertexAI

__all__ = ["VertexAI"]

"""SGLang's name for `ramet.compat.sglang.backend.unavailable`."""

from ramet.compat.sglang.backend.unavailable import Anthropic

__all__ = ["Anthropic"]

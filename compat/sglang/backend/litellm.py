"""SGLang's name for `ramet.compat.sglang.backend.unavailable`."""

from ramet.compat.sglang.backend.unavailable import LiteLLM

__all__ = ["LiteLLM"]

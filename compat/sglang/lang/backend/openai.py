"""SGLang's name for `ramet.compat.sglang.backend.openai`."""

from ramet.compat.sglang.backend.openai import OpenAI, TokenUsage

__all__ = ["OpenAI", "TokenUsage"]

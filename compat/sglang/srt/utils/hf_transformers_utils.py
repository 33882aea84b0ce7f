"""SGLang's way to a tokenizer."""

from typing import Any

__all__ = ["get_tokenizer"]


def get_tokenizer(tokenizer_name: str, **options: Any) -> Any:
    """The tokenizer of a model by the names that `Engine` takes, as transformers loads it."""
    from ramet.runtime.config import EngineConfig
    from ramet.runtime.models.sources import find
    from ramet.runtime.tokenizer import Tokenizer

    return Tokenizer.load(find(tokenizer_name, EngineConfig().models)).hf

"""Backends for other services' own interfaces. They say what to use instead."""

from typing import Any, NoReturn

from ramet.compat.sglang.backend.base_backend import BaseBackend
from ramet.compat.sglang.errors import UnsupportedError

__all__ = ["Anthropic", "Crusoe", "LiteLLM", "VertexAI"]


class _Unavailable(BaseBackend):
    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(
            f"{type(self).__name__} is not here; where the service has an address that speaks "
            "OpenAI's API, use OpenAI(model, base_url=..., api_key=...)"
        )


class Anthropic(_Unavailable):
    """Not here."""


class Crusoe(_Unavailable):
    """Not here."""


class LiteLLM(_Unavailable):
    """Not here."""


class VertexAI(_Unavailable):
    """Not here."""

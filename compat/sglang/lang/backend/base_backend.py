"""SGLang's name for `ramet.compat.sglang.backend.base_backend`."""

from ramet.compat.sglang.backend.base_backend import BaseBackend

__all__ = ["BaseBackend"]

"""SGLang's name for `ramet.compat.sglang.backend.runtime_endpoint`."""

from ramet.compat.sglang.backend.runtime_endpoint import RuntimeEndpoint

__all__ = ["RuntimeEndpoint"]

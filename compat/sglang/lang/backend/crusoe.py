"""SGLang's name for `ramet.compat.sglang.backend.unavailable`."""

from ramet.compat.sglang.backend.unavailable import Crusoe

__all__ = ["Crusoe"]

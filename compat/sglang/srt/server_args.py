"""SGLang's name for `ramet.compat.sglang.server_args`."""

from ramet.compat.sglang.server_args import ServerArgs

__all__ = ["ServerArgs"]

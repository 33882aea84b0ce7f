"""SGLang's frontend language on this engine: `import ramet.compat.sglang as sgl`.

Programs run on an engine in this process (`Engine`, `Runtime`, or an engine of `ramet.runtime`),
on a server with SGLang's routes (`RuntimeEndpoint`), or on a backend of your own. What needs torch
or a network is loaded when it is used.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ramet.compat.sglang.api import (
    assistant,
    assistant_begin,
    assistant_end,
    flush_cache,
    function,
    gen,
    gen_int,
    gen_string,
    get_server_info,
    image,
    select,
    separate_reasoning,
    set_default_backend,
    system,
    system_begin,
    system_end,
    user,
    user_begin,
    user_end,
    video,
)
from ramet.compat.sglang.choices import (
    greedy_token_selection,
    token_length_normalized,
    unconditional_likelihood_normalized,
)
from ramet.compat.sglang.global_config import global_config

if TYPE_CHECKING:
    from ramet.compat.sglang.backend.local import LocalBackend
    from ramet.compat.sglang.backend.openai import OpenAI
    from ramet.compat.sglang.backend.runtime_endpoint import RuntimeEndpoint
    from ramet.compat.sglang.backend.unavailable import Anthropic, Crusoe, LiteLLM, VertexAI
    from ramet.compat.sglang.engine import Engine
    from ramet.compat.sglang.runtime import Runtime
    from ramet.compat.sglang.server_args import ServerArgs

__version__ = version("ramet")

__all__ = [
    "Anthropic",
    "Crusoe",
    "Engine",
    "LiteLLM",
    "LocalBackend",
    "OpenAI",
    "Runtime",
    "RuntimeEndpoint",
    "ServerArgs",
    "VertexAI",
    "__version__",
    "assistant",
    "assistant_begin",
    "assistant_end",
    "flush_cache",
    "function",
    "gen",
    "gen_int",
    "gen_string",
    "get_server_info",
    "global_config",
    "greedy_token_selection",
    "image",
    "select",
    "separate_reasoning",
    "set_default_backend",
    "system",
    "system_begin",
    "system_end",
    "token_length_normalized",
    "unconditional_likelihood_normalized",
    "user",
    "user_begin",
    "user_end",
    "video",
]

_WHEN_USED = {
    "Anthropic": "backend.unavailable",
    "Crusoe": "backend.unavailable",
    "Engine": "engine",
    "LiteLLM": "backend.unavailable",
    "LocalBackend": "backend.local",
    "OpenAI": "backend.openai",
    "Runtime": "runtime",
    "RuntimeEndpoint": "backend.runtime_endpoint",
    "ServerArgs": "server_args",
    "VertexAI": "backend.unavailable",
}


def __getattr__(name: str) -> Any:
    if name in _WHEN_USED:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_WHEN_USED[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

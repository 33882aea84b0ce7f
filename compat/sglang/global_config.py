"""Settings of this process, as SGLang's frontend keeps them."""

from dataclasses import dataclass
from typing import Any

__all__ = ["GlobalConfig", "global_config"]


@dataclass
class GlobalConfig:
    """What a program may set before it runs."""

    verbosity: int = 0  # 2 and more: print the final text of every program
    default_backend: Any = None  # what `set_default_backend` was given
    skip_special_tokens_in_output: bool = True
    spaces_between_special_tokens_in_out: bool = True
    enable_precache_with_tracing: bool = True  # a batch computes its constant prefix first
    enable_parallel_encoding: bool = True


global_config = GlobalConfig()

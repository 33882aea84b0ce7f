"""SGLang's name for states and what runs them."""

from ramet.compat.sglang.executor import (
    StreamExecutor,
)
from ramet.compat.sglang.running import (
    cache_program,
    run_program,
)
from ramet.compat.sglang.state import (
    ProgramState,
    ProgramStateGroup,
)

__all__ = [
    "ProgramState",
    "ProgramStateGroup",
    "StreamExecutor",
    "cache_program",
    "run_program",
]

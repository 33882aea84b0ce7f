"""SGLang's name for `ramet.compat.sglang.tracer`."""

from ramet.compat.sglang.tracer import (
    TracerProgramState,
    trace_program,
)

__all__ = [
    "TracerProgramState",
    "trace_program",
]

"""The trunk: turns request graphs into batches over the block cache and runs the model.

What is exported is imported when it is first asked for: the command line lives in here too, and
most of it starts without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ramet.runtime.async_engine import AsyncEngine
    from ramet.runtime.config import EngineConfig
    from ramet.runtime.engine import Engine, Stream
    from ramet.runtime.errors import EngineError
    from ramet.runtime.events import (
        BranchKept,
        BranchOpened,
        BranchReleased,
        Event,
        NodeStarted,
        TextDelta,
        ValueBound,
    )
    from ramet.runtime.result import Finished

__all__ = [
    "AsyncEngine",
    "BranchKept",
    "BranchOpened",
    "BranchReleased",
    "Engine",
    "EngineConfig",
    "EngineError",
    "Event",
    "Finished",
    "NodeStarted",
    "Stream",
    "TextDelta",
    "ValueBound",
]

_HOMES = {
    "AsyncEngine": "async_engine",
    "BranchKept": "events",
    "BranchOpened": "events",
    "BranchReleased": "events",
    "Engine": "engine",
    "EngineConfig": "config",
    "EngineError": "errors",
    "Event": "events",
    "Finished": "result",
    "NodeStarted": "events",
    "Stream": "engine",
    "TextDelta": "events",
    "ValueBound": "events",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The trunk: turns request graphs into batches over the block cache and runs the model."""

from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.config import EngineConfig
from ramet.runtime.engine import Engine, Stream
from ramet.runtime.errors import EngineError
from ramet.runtime.events import Event, TextDelta, ValueBound
from ramet.runtime.result import Finished

__all__ = [
    "AsyncEngine",
    "Engine",
    "EngineConfig",
    "EngineError",
    "Event",
    "Finished",
    "Stream",
    "TextDelta",
    "ValueBound",
]

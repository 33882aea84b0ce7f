"""Key/value blocks by id and hash: who holds what, what is shared, what goes. No tensors."""

from ramet.cache.block import Copy
from ramet.cache.errors import AuditError, CacheError, CacheMisuse, OutOfBlocks
from ramet.cache.plan import Expectation
from ramet.cache.pool import BlockPool
from ramet.cache.stats import CacheStats
from ramet.cache.table import BlockTable
from ramet.cache.window import Explanation, Nearest, Span, Spans, explain, forget, spans

__all__ = [
    "AuditError",
    "BlockPool",
    "BlockTable",
    "CacheError",
    "CacheMisuse",
    "CacheStats",
    "Copy",
    "Expectation",
    "Explanation",
    "Nearest",
    "OutOfBlocks",
    "Span",
    "Spans",
    "explain",
    "forget",
    "spans",
]

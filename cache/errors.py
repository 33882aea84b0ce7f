"""Everything the block cache raises. Knows no block and no table, only what went wrong.

CacheError
├── OutOfBlocks    the pool cannot give that many blocks now; nothing changed
├── CacheMisuse    the caller broke a contract; nothing changed
└── AuditError     the bookkeeping itself is wrong: a bug of ours, never of the caller
"""


class CacheError(Exception):
    """Base of every error of ramet.cache."""


class OutOfBlocks(CacheError):
    """A reservation needs more blocks than are free or cached. It took none."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"{needed} blocks needed, {available} available")
        self.needed = needed
        self.available = available


class CacheMisuse(CacheError):
    """A call that its contract forbids, such as committing more than was reserved."""


class AuditError(CacheError):
    """A law of the bookkeeping does not hold. `law` is its name, `detail` where it broke."""

    def __init__(self, law: str, detail: str) -> None:
        super().__init__(f"{law}: {detail}")
        self.law = law
        self.detail = detail

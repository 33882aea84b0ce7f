"""What a program, and one run of it, may take at most. Each limit holds to the unit."""

from dataclasses import dataclass, fields

from ramet.errors import LimitError, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Most of each. The first three are of a source, the others of one run of a program."""

    source_bytes: int = 65_536
    statements: int = 10_000
    nesting: int = 64  # of brackets, blocks and operators
    branches: int = 10_000  # begun in all, calls too
    live_branches: int = 1_024  # begun and not released
    steps: int = 100_000  # turns of loops and comprehensions
    made: int = 20_000_000  # characters and items that are made, read or appended
    tokens: int = 1_000_000  # generated
    seconds: float = 3_600.0  # of wall time

    def __post_init__(self) -> None:
        for limit in fields(self):
            if not getattr(self, limit.name) >= 0:
                raise ValueError(f"{limit.name} must be 0 or more")

    def hold(self, limit: str, value: float, span: Span | None = None) -> None:
        """Raise `LimitError` if the value is over that limit."""
        most = getattr(self, limit)
        if value > most:
            raise LimitError(limit, most, _SAYS[limit].format(f"{most:,}"), span)


_SAYS = {
    "source_bytes": "the source is longer than {} bytes",
    "statements": "the source has more than {} statements",
    "nesting": "it nests deeper than {}",
    "branches": "the run begins more than {} branches",
    "live_branches": "the run has more than {} branches at once",
    "steps": "the loops of the run take more than {} steps",
    "made": "the expressions of the run make more than {} characters and items",
    "tokens": "the run generates more than {} tokens",
    "seconds": "the run takes longer than {} seconds",
}

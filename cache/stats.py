"""Counters of a pool and the record that shows them. Knows numbers only."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What has happened since the pool was made."""

    queries: int = 0  # tokens looked for by adopt
    hits: int = 0  # tokens found by adopt
    published: int = 0  # blocks made findable
    merged: int = 0  # blocks that filled up with what a published block already held
    displaced: int = 0  # published blocks that lost their key to a newer one
    evicted: int = 0  # cached blocks reused for something else
    copies: int = 0  # copy-on-write copies in committed steps


@dataclass(frozen=True, slots=True)
class CacheStats:
    """A pool at one moment. free + held + cached == num_blocks."""

    num_blocks: int
    free: int  # blank
    held: int  # owned by a table, or read by a copy in flight
    cached: int  # owned by nobody, still findable
    queries: int
    hits: int
    published: int
    merged: int
    displaced: int
    evicted: int
    copies: int

    @property
    def hit_rate(self) -> float:
        """Tokens found per token looked for, 0 before the first query."""
        return self.hits / self.queries if self.queries else 0.0

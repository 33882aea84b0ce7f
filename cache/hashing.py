"""The keys of full blocks: a chain of hashes over token ids. Knows bytes, no block and no table.

`key(block) = xxh3_128(seed, key of the block before it, token ids)`, and before the first block
stands a root made of the fingerprint (model, dtype, layout) and the scope (tenant). The chain of a
public path begins with the fingerprint alone; where a scope leaves it, the scope is hashed in, as
it is into the root. xxh3 is fast, neither secret nor collision-proof: a key only says where to
look, and whoever looks compares the token ids and the identity of the parent too
(`PrefixIndex.find`).
"""

import secrets
from array import array

from xxhash import xxh3_128_digest

SEED_BITS = 64


class KeyChain:
    """Makes keys. Two chains agree only if seed and fingerprint agree."""

    __slots__ = ("_seed", "start")

    def __init__(self, seed: int | None, fingerprint: bytes) -> None:
        """Without a seed a random one is drawn, so that nobody outside can prepare collisions."""
        self._seed = secrets.randbits(SEED_BITS) if seed is None else seed % (1 << SEED_BITS)
        # Hashed to a fixed width, so that no fingerprint and scope can be read as another pair.
        self.start = xxh3_128_digest(fingerprint, self._seed)

    def root(self, scope: bytes) -> bytes:
        """The key before a scope's first block."""
        return self.enter(self.start, scope)

    def enter(self, public: bytes, scope: bytes) -> bytes:
        """The key where a scope leaves a public path that has the key `public` there."""
        return xxh3_128_digest(public + scope, self._seed)

    def extend(self, parent: bytes, tokens: list[int]) -> bytes:
        """The key of a full block of `tokens` after the block (or root) with the key `parent`."""
        return xxh3_128_digest(parent + array("q", tokens).tobytes(), self._seed)

"""Tables with tokens in them."""

from ramet.cache import BlockPool, BlockTable, Copy


def grown(pool: BlockPool, tokens: list[int], scope: bytes = b"") -> BlockTable:
    """A table into which these tokens were written, whatever was cached."""
    table = BlockTable(pool, scope)
    grow(table, tokens)
    return table


def grow(table: BlockTable, tokens: list[int]) -> list[Copy]:
    """A step of one table; the copies it asked for."""
    copies = table.reserve(len(tokens))
    table.commit(tokens)
    return copies

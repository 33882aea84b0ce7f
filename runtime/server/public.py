"""Prefixes whose blocks all tenants share. Knows texts and tokens; no request.

Whoever runs the server declares them, and nobody else. What is shared is there sooner, and whoever
sends a prompt can take the time: a tenant that could declare a guess public could so find out
whether another tenant uses it.
"""

from collections.abc import Sequence

from ramet.errors import shown
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import PromptError
from ramet.runtime.server.config import ConfigError
from ramet.runtime.server.pins import FIRST
from ramet.runtime.tokenizer import Piece, Tokenizer


def public_tokens(core: EngineCore, texts: Sequence[str]) -> list[list[int]]:
    """Each text as the start of a context; control tokens that it spells are read as such.

    Raises:
        ConfigError: a text is less than a block, or leaves no room for a prompt behind it.
    """
    size, room = core.pool.block_size, core.pool.block_size * (core.pool.num_blocks - 1)
    prefixes: list[list[int]] = []
    for text in texts:
        tokens = _encoded(core.tokenizer, text)
        about = f"public: the prefix {shown(text)} has {len(tokens)} tokens"
        if len(tokens) < size:
            raise ConfigError(f"{about}; only full blocks are shared, and a block has {size}")
        if len(tokens) >= min(room, core.context):
            most = min(room, core.context) - 1
            raise ConfigError(f"{about}; no more than {most} leave room for what comes after them")
        prefixes.append(tokens)
    return prefixes


def declare(core: EngineCore, prefixes: Sequence[list[int]]) -> None:
    """Share the full blocks of these, and evict them last. On the engine's thread, and before
    anything runs."""
    for tokens in prefixes:
        core.pool.declare_public(tokens)
    for tokens in prefixes:
        core.pool.expect(tokens, FIRST)


def _encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    """With the token that opens a context, if there is one; a template spells that itself."""
    try:
        tokens = tokenizer.encode([Piece(text, control=True)], start=True)
    except PromptError as error:
        raise ConfigError(f"public: {error}") from None
    opening = tokenizer.encode([], start=True)
    return tokens if tokens[: len(opening)] == opening else opening + tokens

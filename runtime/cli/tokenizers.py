"""Counts the tokens of a text as a model does. Loads its tokenizer, and no weights."""

from collections.abc import Callable

from ramet.runtime.cli.exits import NoEngine
from ramet.runtime.config import EngineConfig
from ramet.runtime.errors import EngineError
from ramet.runtime.models import sources
from ramet.runtime.tokenizer import Piece, Tokenizer


def counter(model: str) -> Callable[[str], int]:
    """The number of tokens of a text; `NoEngine` if there is no such model."""
    try:
        tokenizer = Tokenizer.load(sources.find(model, EngineConfig().models))
    except (EngineError, OSError) as error:
        raise NoEngine(str(error)) from error
    return lambda text: len(tokenizer.encode([Piece(text)], start=False))

"""The toy model with few letters, so that its text can be encoded again as the same tokens."""

from typing import Any

from torch import Tensor

from ramet.runtime import Engine
from ramet.runtime.tokenizer import Piece
from tests.runtime.conftest import toy_logits


def encoded(engine: Engine, text: str) -> list[int]:
    return engine.tokenizer.encode([Piece(text)], start=True)


def decoded(engine: Engine, tokens: list[int]) -> str:
    return engine.tokenizer.decode(tokens)


LEGIBLE = "abcdefgh "


def legible(engine: Engine) -> Engine:
    """The toy model, with all but a few letters ruled out: then text and tokens are one."""
    allowed = set(encoded(engine, LEGIBLE))
    forward = engine.core.model.forward

    def restricted(*args: Any) -> Any:
        logits = forward(*args)
        for token in range(logits.shape[-1]):
            if token not in allowed:
                logits[:, token] -= 1_000.0
        return logits

    engine.core.model.forward = restricted  # type: ignore[method-assign]
    return engine


def legible_logits(engine: Engine, tokens: list[int]) -> Tensor:
    """What the legible model gives after these tokens, worked out without a cache: `[vocab]`."""
    logits = toy_logits([(token, place) for place, token in enumerate(tokens)])
    allowed = set(encoded(engine, LEGIBLE))
    ruled_out = [token for token in range(len(logits)) if token not in allowed]
    logits[ruled_out] -= 1_000.0
    return logits


def letters(engine: Engine, text: str, count: int) -> str:
    """What the legible model goes on with."""
    tokens = encoded(engine, text)
    for _ in range(count):
        tokens.append(int(legible_logits(engine, tokens).argmax()))
    return decoded(engine, tokens)[len(text) :]

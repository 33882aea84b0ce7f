"""OpenAI's answers: chunks of a stream, and whole ones, made of the same pieces."""

import secrets
import time
from collections.abc import Iterable
from typing import Any

from ramet.runtime.server.openai import logprobs
from ramet.runtime.server.openai.pieces import Piece, Usage


class Answer:
    """Of one request: its id, when it was made, which model."""

    prefix: str
    object: str
    chunk_object: str

    def __init__(self, model: str) -> None:
        self._head = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, pieces: Iterable[Piece], usage: Usage) -> dict[str, Any]:
        """All pieces as one answer."""
        of: dict[int, list[Piece]] = {}
        for piece in pieces:
            of.setdefault(piece.index, []).append(piece)
        choices = [self._choice(index, of[index]) for index in sorted(of)]
        return {**self._head, "object": self.object, "choices": choices, "usage": usage.told()}

    def opening(self, choices: int) -> list[dict[str, Any]]:
        """The chunks before the first piece."""
        return []

    def chunk(self, piece: Piece) -> dict[str, Any]:
        """The chunk of a piece."""
        return self._chunk([self._part(piece)])

    def closing(self, usage: Usage) -> dict[str, Any]:
        """The chunk that tells the usage."""
        return {**self._chunk([]), "usage": usage.told()}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": self.chunk_object, "choices": choices}

    def _choice(self, index: int, pieces: list[Piece]) -> dict[str, Any]:
        raise NotImplementedError

    def _part(self, piece: Piece) -> dict[str, Any]:
        raise NotImplementedError


class CompletionAnswer(Answer):
    """Of `/v1/completions`."""

    prefix = "cmpl"
    object = chunk_object = "text_completion"

    def _choice(self, index: int, pieces: list[Piece]) -> dict[str, Any]:
        told = [piece.logprobs for piece in pieces if piece.logprobs is not None]
        return _choice(
            index,
            pieces[-1].finish,
            logprobs.joined(told) if told else None,
            text="".join(piece.text for piece in pieces),
        )

    def _part(self, piece: Piece) -> dict[str, Any]:
        return _choice(piece.index, piece.finish, piece.logprobs, text=piece.text)


class ChatAnswer(Answer):
    """Of `/v1/chat/completions`."""

    prefix = "chatcmpl"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def opening(self, choices: int) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [self._chunk([_choice(at, None, None, delta=delta)]) for at in range(choices)]

    def _choice(self, index: int, pieces: list[Piece]) -> dict[str, Any]:
        told = [piece.logprobs for piece in pieces if piece.logprobs is not None]
        content = "".join(piece.text for piece in pieces)
        entries = [entry for each in told for entry in each["content"]]
        return _choice(
            index,
            pieces[-1].finish,
            {"content": entries, "refusal": None} if told else None,
            message={"role": "assistant", "content": content, "refusal": None},
        )

    def _part(self, piece: Piece) -> dict[str, Any]:
        delta = {"content": piece.text} if piece.text else {}
        return _choice(piece.index, piece.finish, piece.logprobs, delta=delta)


def _choice(index: int, finish: str | None, told: Any, **what: Any) -> dict[str, Any]:
    return {"index": index, **what, "logprobs": told, "finish_reason": finish}

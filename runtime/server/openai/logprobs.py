"""Log-probabilities in the shapes of OpenAI's answers. Knows draws and a tokenizer."""

import codecs
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from ramet.runtime.sampling import Draw
from ramet.runtime.sequence import Top
from ramet.runtime.tokenizer import Tokenizer

LEAST = -9999.0
"""What stands for a log-probability that JSON cannot hold."""


def of_chat(draws: Iterable[Draw], tokenizer: Tokenizer) -> dict[str, Any]:
    """`logprobs` of a chat choice, or of a delta of one."""
    return {
        "content": [
            {
                **_entry(draw.token, draw.logprob, tokenizer),
                "top_logprobs": [_entry(token, p, tokenizer) for token, p in draw.top],
            }
            for draw in draws
        ],
        "refusal": None,
    }


def _entry(token: int, logprob: float | None, tokenizer: Tokenizer) -> dict[str, Any]:
    spelled = tokenizer.token_bytes(token)
    return {"token": _name(spelled), "logprob": finite(logprob), "bytes": list(spelled)}


class CompletionLogprobs:
    """`logprobs` of a completion's choice, piece by piece: the offsets go on."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def of_prompt(
        self, tokens: Sequence[int], text: str, logprobs: Sequence[float], tops: Sequence[Top]
    ) -> dict[str, Any]:
        """The entries of a prompt that reads so; the first token has no log-probability."""
        found = _empty()
        scores = [None, *logprobs]
        likeliest = [None, *(tops or [()] * len(logprobs))]
        for token, logprob, top in zip(tokens, scores, likeliest, strict=True):
            self._add(found, token, logprob, top)
            if token in self._tokenizer.control_ids:
                name = self._tokenizer.token_bytes(token).decode()
                self._offset += len(name) if text.startswith(name, self._offset) else 0
        self._decoder.reset()
        self._offset = len(text)
        return found

    def of(self, draws: Iterable[Draw]) -> dict[str, Any]:
        """The entries of these draws, which follow those before."""
        found = _empty()
        for draw in draws:
            self._add(found, draw.token, draw.logprob, draw.top)
        return found

    def _add(
        self, found: dict[str, Any], token: int, logprob: float | None, top: Top | None
    ) -> None:
        found["tokens"].append(self._spelled(token))
        found["token_logprobs"].append(None if logprob is None else finite(logprob))
        found["text_offset"].append(self._pass(token))
        if top is None or logprob is None:
            found["top_logprobs"].append(None)
            return
        likeliest: dict[str, float] = {}
        for each, p in (*top, (token, logprob)):
            likeliest.setdefault(self._spelled(each), finite(p))
        found["top_logprobs"].append(likeliest)

    def _pass(self, token: int) -> int:
        """Where the token begins: one that is no whole text, with the character it is part of."""
        begin = self._offset
        if self._tokenizer.is_text(token):
            spelled = self._tokenizer.token_bytes(token)
            self._offset += len(self._decoder.decode(spelled))
            with suppress(UnicodeDecodeError):
                begin = self._offset - len(spelled.decode())
        return begin

    def _spelled(self, token: int) -> str:
        return _name(self._tokenizer.token_bytes(token))


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The entries of several pieces, one after the other."""
    return {key: [each for part in parts for each in part[key]] for key in _empty()}


def finite(logprob: float | None) -> float:
    return LEAST if logprob is None or not logprob > LEAST else logprob


def _empty() -> dict[str, Any]:
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


def _name(spelled: bytes) -> str:
    """A token as text; one that is no whole text by its bytes, as OpenAI writes them."""
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)

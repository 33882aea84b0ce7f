"""Generated ids to text as they come, cut only between characters.

The deltas of a sequence, joined, are the text of its ids in their context. Knows one sequence's
ids; knows no stop and no stream.
"""

import codecs
from collections.abc import Sequence
from copy import copy
from typing import Self

from ramet.runtime.tokenizer import Tokenizer

# Longer than any character that a decoder builds from several tokens; then it is not a character.
_LONGEST_HELD = 8
_REPLACEMENT = "\ufffd"
_utf8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Text deltas for the ids that follow `context_ids`.

    Control tokens have no text. A character belongs to what is generated when its last byte is: a
    context that ends inside a character gives none of its finished text. Each push takes constant
    time on average, whatever has come before.
    """

    def __init__(self, tokenizer: Tokenizer, context_ids: Sequence[int] = ()) -> None:
        kind = _ByteStream if tokenizer.exact_bytes else _TokenWindow
        self._stream: _ByteStream | _TokenWindow = kind(tokenizer, context_ids)

    def push(self, token: int) -> str:
        """The characters that this token finishes; what it leaves unfinished is held."""
        return self._stream.push(token)

    @property
    def unfinished(self) -> bool:
        """Whether the last token leaves a character in its middle."""
        return self._stream.unfinished

    def flush(self) -> str:
        """What is held, at the end of the sequence: U+FFFD for a broken character."""
        return self._stream.flush()

    def copy(self) -> Self:
        """One with the same past, for a branch."""
        other = copy(self)
        other._stream = self._stream.copy()
        return other


class _ByteStream:
    """For tokens with exact bytes: they go through one incremental UTF-8 decoder.

    `_half` is the context's unfinished character, and what has come since, while it may still
    become a character. If it does not, its U+FFFD is the context's and not ours.
    """

    def __init__(self, tokenizer: Tokenizer, context_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        tail = _last_bytes(tokenizer, context_ids)
        self._decoder = _utf8("replace")
        self._decoder.decode(tail)
        self._half: bytes = self._decoder.getstate()[0]
        self._strips_space = tokenizer.strips_first_space and not tail

    def push(self, token: int) -> str:
        if not self._tokenizer.is_text(token):
            return ""
        data = self._tokenizer.token_bytes(token)
        text = self._decoder.decode(data)
        if self._half:
            return self._after_half(data, text)
        if self._strips_space and text:
            self._strips_space = False
            return text.removeprefix(" ")
        return text

    @property
    def unfinished(self) -> bool:
        return bool(self._decoder.getstate()[0])

    def flush(self) -> str:
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return "" if self._half else text

    def copy(self) -> Self:
        other = copy(self)
        other._decoder = _utf8("replace")
        other._decoder.setstate(self._decoder.getstate())
        return other

    def _after_half(self, data: bytes, text: str) -> str:
        self._half += data
        if not text:
            return ""
        broken = _starts_broken(self._half)
        self._half = b""
        return text[1:] if broken else text


class _TokenWindow:
    """For any other decoder: the difference that a token makes to the text of those before it.

    The window reaches one finished stretch back, since a decoder may join neighbours (WordPiece's
    `##`). Text that ends in U+FFFD is unfinished, for a few tokens.
    """

    def __init__(self, tokenizer: Tokenizer, context_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        visible = [token for token in context_ids[-2 * _LONGEST_HELD :] if tokenizer.is_text(token)]
        self._ids = visible[-_LONGEST_HELD:]
        self._known = len(self._ids)

    def push(self, token: int) -> str:
        if not self._tokenizer.is_text(token):
            return ""
        self._ids.append(token)
        text = self._delta()
        if text.endswith(_REPLACEMENT) and len(self._ids) - self._known < _LONGEST_HELD:
            return ""
        return self._advance(text)

    @property
    def unfinished(self) -> bool:
        return len(self._ids) > self._known

    def flush(self) -> str:
        return self._advance(self._delta())

    def copy(self) -> Self:
        other = copy(self)
        other._ids = list(self._ids)
        return other

    def _delta(self) -> str:
        known = self._tokenizer.decode(self._ids[: self._known])
        return self._tokenizer.decode(self._ids)[len(known) :]

    def _advance(self, text: str) -> str:
        self._ids = self._ids[self._known :] or self._ids
        self._known = len(self._ids)
        return text


def _last_bytes(tokenizer: Tokenizer, ids: Sequence[int]) -> bytes:
    """The last bytes of the ids' text, enough to hold the longest unfinished character."""
    data = b""
    for token in reversed(ids):
        if tokenizer.is_text(token):
            data = tokenizer.token_bytes(token) + data
        if len(data) > 3:
            break
    return data


def _starts_broken(data: bytes) -> bool:
    """Whether the first character of UTF-8 text is no character."""
    try:
        _utf8("strict").decode(data)
    except UnicodeDecodeError as error:
        return error.start == 0
    return False

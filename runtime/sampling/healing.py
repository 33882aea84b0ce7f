"""Token healing: the end of a prompt's text is taken back, and what is drawn spells it again.

A prompt that ends in the middle of what the tokenizer writes as one token makes a model stumble:
behind "http:" it has hardly seen "//", since that is one token, "://". So the last tokens are taken
back, and the first that are drawn begin with their bytes, or lie within them. (Idea: "The art of
prompt design: prompt boundaries and token healing", Lundberg 2023; guidance does it always.)

Knows a vocabulary and bytes. Knows no logits, no sequence and no grammar.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ramet.runtime.errors import RequestError
from ramet.runtime.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Healing:
    """Text that was taken back, and how much of it is still to be drawn again; it never changes."""

    text: str
    count: int  # tokens that were taken back
    left: bytes  # the end of the text, of one byte at least
    tokens: NDArray[np.int64]  # that may come next: they go beyond what is left, or lie within
    spellings: "Spellings"

    def after(self, token: int) -> "Healing | None":
        """With that token drawn; None when all is drawn again."""
        left = self.left[len(self.spellings.bytes_of(token)) :]
        if not left:
            return None
        tokens = self.spellings.spelling(left)
        return Healing(self.text, self.count, left, tokens, self.spellings)


class Spellings:
    """The `size` tokens of a model by their bytes; `ends` and control tokens spell nothing.

    Sorted when it is first needed: 50,000 tokens take 0.2 s.
    """

    def __init__(self, tokenizer: Tokenizer, size: int, ends: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._ends = frozenset(ends)

    def heal(self, tokens: Sequence[int], begun: int, text: str) -> Healing | None:
        """What to take back of the tokens, the last of which spell the end of a text.

        It is as many tokens as possible, such that some longer token begins with their bytes. They
        come after the first `begun` and lie in the text, they are whole characters, and one token
        stays before them. None if there are none.

        Raises:
            RequestError: the tokens of this tokenizer stand for no bytes.
        """
        if not self._tokenizer.exact_bytes:
            raise RequestError("heal: the tokens of this model's tokenizer stand for no bytes")
        data, found, whole = b"", None, text.encode()
        for at in range(len(tokens) - 1, max(begun, 1) - 1, -1):
            data = self.bytes_of(tokens[at]) + data
            if not self._is_text(tokens[at]) or not whole.endswith(data):
                break
            if len(data) >= self._longest or not self._has_text(tokens, at):
                break
            if _is_whole(data) and self._goes_on(data):
                found = Healing(data.decode(), len(tokens) - at, data, self.spelling(data), self)
        return found

    def spelling(self, left: bytes) -> NDArray[np.int64]:
        """The tokens that begin with these bytes, and those that begin them and can be followed by
        others that spell the rest; none twice, in no order."""
        rest = self._spelled(left)
        within = [self._exactly(left[:end]) for end in range(1, len(left)) if rest[end]]
        ranges = [self._covering(left), *within]
        return np.concatenate([self._sorted[1][begin:end] for begin, end in ranges])

    def bytes_of(self, token: int) -> bytes:
        return self._tokenizer.token_bytes(token)

    def _spelled(self, left: bytes) -> list[bool]:
        """Whether tokens spell the bytes from each place on, and perhaps more."""
        can = [False] * len(left)
        for at in range(len(left) - 1, 0, -1):
            can[at] = _some(self._covering(left[at:])) or any(
                can[end] and _some(self._exactly(left[at:end])) for end in range(at + 1, len(left))
            )
        return can

    def _goes_on(self, data: bytes) -> bool:
        """Whether some longer token begins with the bytes."""
        return self._covering(data)[1] > self._exactly(data)[1]

    def _covering(self, data: bytes) -> tuple[int, int]:
        """Where the tokens are that begin with the bytes."""
        keys = self._sorted[0]
        following = data.rstrip(b"\xff")  # the first bytes that come after all that begin so
        end = len(keys)
        if following:
            end = bisect_left(keys, following[:-1] + bytes([following[-1] + 1]))
        return bisect_left(keys, data), end

    def _exactly(self, data: bytes) -> tuple[int, int]:
        """Where the tokens are that spell the bytes and no more."""
        keys = self._sorted[0]
        return bisect_left(keys, data), bisect_right(keys, data)

    @cached_property
    def _sorted(self) -> tuple[list[bytes], NDArray[np.int64]]:
        """The bytes of all tokens that stand for text, in order; and the tokens [N]."""
        spelled = sorted(
            (data, token)
            for token in range(min(self._size, self._tokenizer.vocab_size))
            if self._is_text(token) and (data := self.bytes_of(token))
        )
        keys = [data for data, _ in spelled]
        return keys, np.fromiter((token for _, token in spelled), np.int64, len(spelled))

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._sorted[0]), default=0)

    def _is_text(self, token: int) -> bool:
        return self._tokenizer.is_text(token) and token not in self._ends

    def _has_text(self, tokens: Sequence[int], count: int) -> bool:
        """Whether the first of the tokens hold text, if it matters: the first space of all text is
        not read by some tokenizers."""
        if not self._tokenizer.strips_first_space:
            return True
        return any(map(self._is_text, islice(tokens, count)))


def _some(found: tuple[int, int]) -> bool:
    return found[0] < found[1]


def _is_whole(data: bytes) -> bool:
    """Whether the bytes are whole characters."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

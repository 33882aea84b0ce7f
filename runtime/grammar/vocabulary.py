"""A tokenizer as the grammar engine needs it: every token's bytes, and text to tokens.

Control tokens have no bytes here, so no grammar can ask for one. Knows no grammar.
"""

from collections.abc import Collection

import numpy as np
from llguidance import LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from ramet.runtime.errors import PromptError
from ramet.runtime.tokenizer import Piece, Tokenizer


class Vocabulary:
    """The `size` tokens of a model, those that end a text among them.

    A mask is packed: bit t % 8 of byte t // 8 says whether token t may come next. `ends` holds the
    tokens that end a text; `usable` them and every token that stands for some text.

    `size` may be larger than the tokenizer's vocabulary, as a padded output layer is, or smaller.
    """

    bos_token_id = None
    special_token_ids: tuple[int, ...] = ()

    def __init__(self, tokenizer: Tokenizer, size: int, eos: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self.size = size
        self.eos = sorted(token for token in eos if token < size)
        self.eos_token_id = self.eos[0] if self.eos else None
        silent = tokenizer.control_ids | set(self.eos)
        self.tokens = [
            b"" if token in silent else tokenizer.token_bytes(token) for token in range(size)
        ]
        self.ends = packed([token in set(self.eos) for token in range(size)])
        self.usable = packed(list(map(bool, self.tokens))) | self.ends
        self.engine = LLTokenizer(TokenizerWrapper(self), eos_token=self.eos or None)

    def __call__(self, text: bytes) -> list[int]:
        """The text as the tokenizer writes it after other text; every byte is spelled."""
        try:
            ids = self._tokenizer.encode([Piece(text.decode())], start=False)
        except (PromptError, UnicodeDecodeError):
            ids = []
        if b"".join(self.tokens[i] for i in ids if i < self.size) == text:
            return ids
        return self.engine.greedy_tokenize(text.decode("utf-8", "replace"))


def packed(mask: list[bool]) -> NDArray[np.uint8]:
    return np.packbits(mask, bitorder="little")

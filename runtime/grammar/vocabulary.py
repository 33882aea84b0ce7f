"""A tokenizer as the grammar engine needs it: every token's bytes, and text to tokens.

Control tokens are none that a text can hold. Knows no grammar.
"""

from collections.abc import Collection

import numpy as np
from llguidance import LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from ramet.runtime.errors import PromptError
from ramet.runtime.tokenizer import Piece, Tokenizer


class Vocabulary(TokenizerWrapper):
    """The `size` tokens of a model, those that end a text among them.

    A mask is packed: bit t % 8 of byte t // 8 says whether token t may come next. `ends` holds the
    tokens that end a text, `texts` all that stand for some text.

    `size` may be larger than the tokenizer's vocabulary, as a padded output layer is, or smaller.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, size: int, eos: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self.size = size
        self.eos = sorted(token for token in eos if token < size)
        control = tokenizer.control_ids | set(self.eos)
        self.special_token_ids = sorted(token for token in control if token < size)
        self.tokens = list(map(tokenizer.token_bytes, range(size)))
        self.ends = self.packed(self.eos)
        named = [token for token, data in enumerate(self.tokens) if data]
        self.texts = self.packed(sorted(set(named) - control))
        if not self.eos:
            self.tokens.append(b"")  # the engine needs an end; behind all tokens none can draw it
        self.eos_token_id = self.eos[0] if self.eos else size
        self.engine = LLTokenizer(self, eos_token=self.eos or size)

    def __call__(self, s: str) -> list[int]:
        """The text as the tokenizer writes it after other text; every byte is spelled."""
        try:
            ids = self._tokenizer.encode([Piece(s)], start=False)
        except PromptError:
            ids = []
        if b"".join(self.tokens[i] for i in ids if i < self.size) == s.encode():
            return ids
        return self.engine.greedy_tokenize(s)

    def is_text(self, token: int) -> bool:
        """Whether the token stands for some text."""
        return token < self.size and bool(self.texts[token // 8] >> token % 8 & 1)

    def packed(self, tokens: list[int]) -> NDArray[np.uint8]:
        """The mask of these tokens [ceil(V / 8)]."""
        mask = np.zeros(self.size, np.bool_)
        mask[tokens] = True
        return np.packbits(mask, bitorder="little")

"""Prompts as tokens: raw texts, and messages through the chat template. Knows no sampling."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ramet.runtime.chat import ChatFormat
from ramet.runtime.errors import PromptError
from ramet.runtime.server.guard import check_text
from ramet.runtime.server.openai.requests import CompletionRequest, Message
from ramet.runtime.tokenizer import Piece, Tokenizer

T = TypeVar("T")

_SHORT = 4_096
"""Characters that are encoded at once; more of them on another thread, for others to go on."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to go on from. `text` is how it reads."""

    tokens: list[int]
    text: str


class Prompts:
    """Encodes for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._chat = ChatFormat(tokenizer)

    async def of_completion(self, request: CompletionRequest, most: int) -> list[Prompt]:
        """The prompts of a request, one or several, of at most so many bytes each.

        Raises `PromptError`, or `Refused` for one that is longer.
        """
        given = request.prompt
        several = isinstance(given, list) and not (given and isinstance(given[0], int))
        each = given if isinstance(given, list) and several else [given]
        special = request.parse_special is not False
        return [await self.one(prompt, most, special) for prompt in each]

    async def one(self, given: object, most: int, special: bool = True) -> Prompt:
        """A text of at most so many bytes, or tokens. Control tokens that the text spells are read
        as such if they are `special`. Raises as `of_completion`."""
        check_text([given], most)
        if isinstance(given, str):
            encode = self.whole if special else self.plain
            return Prompt(await _aside(len(given), lambda: encode(given)), given)
        assert isinstance(given, list), "a text or its tokens"
        self.check(given)
        return Prompt(given, self.tokenizer.decode(given, start=True))

    async def of_chat(self, messages: Sequence[Message], *, continues: bool) -> list[int]:
        """The tokens of a conversation, up to where the assistant speaks. Only the template writes
        control tokens. Raises `PromptError`."""
        size = sum(len(message.text) for message in messages)
        return await _aside(size, lambda: self.chat(messages, continues=continues))

    def chat(
        self, messages: Sequence[Message], *, continues: bool = False, prompts: bool = True
    ) -> list[int]:
        """As `of_chat`; with `continues` the last message is still open, and unless it `prompts`
        the last message is the end."""
        pieces = self._pieces(messages, continues, prompts)
        return self.tokenizer.encode(list(pieces), start=True)

    def _pieces(
        self, messages: Sequence[Message], continues: bool, prompts: bool
    ) -> Iterable[Piece]:
        conversation = self._chat.start()
        for number, message in enumerate(messages, 1):
            role = "system" if message.role == "developer" else message.role
            turn = conversation.open(role)
            yield turn.piece
            yield Piece(message.text)
            if continues and number == len(messages):
                return
            turn = turn.conversation.close()
            yield turn.piece
            conversation = turn.conversation
        if prompts:
            yield conversation.open("assistant").piece

    def whole(self, text: str, *, start: bool = True) -> list[int]:
        """The tokens of a whole text: control tokens that it spells are read as such."""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise PromptError("the text is not valid Unicode: a lone surrogate is in it") from None
        return self.tokenizer.hf.backend_tokenizer.encode(text, add_special_tokens=start).ids

    def plain(self, text: str, *, start: bool = True) -> list[int]:
        """The tokens of a text that holds no control tokens, whatever it spells."""
        return self.tokenizer.encode([Piece(text)], start=start)

    def check(self, tokens: Sequence[int]) -> None:
        """Raises `PromptError` for an id that is none."""
        most = self.tokenizer.vocab_size
        if wrong := next((token for token in tokens if not 0 <= token < most), None):
            raise PromptError(f"token {wrong} is not in the vocabulary, which has {most} tokens")


async def _aside(size: int, work: Callable[[], T]) -> T:
    return work() if size <= _SHORT else await asyncio.to_thread(work)

"""Prompts as tokens: raw texts, and messages through the chat template. Knows no sampling."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ramet.runtime.chat import ChatFormat
from ramet.runtime.errors import PromptError
from ramet.runtime.server.guard import check_text
from ramet.runtime.server.openai.requests import Message
from ramet.runtime.tokenizer import Piece, Tokenizer

T = TypeVar("T")

_ASSISTANT = "assistant"
_OF_A_MESSAGE = 64  # characters: what a template takes for one
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

    async def one(self, given: str | list[int], most: int, *, special: bool = True) -> Prompt:
        """A text of at most so many bytes, or tokens. Control tokens that the text spells are read
        as such if they are `special`.

        Raises `PromptError`, or `Refused` for a text that is longer.
        """
        check_text([given], most)
        if isinstance(given, str):
            encode = self.whole if special else self.plain
            return Prompt(await aside(len(given), lambda: encode(given)), given)
        self.check(given)
        return Prompt(given, self.tokenizer.decode(given, start=True))

    async def of_chat(self, messages: Sequence[Message], *, continues: bool) -> list[int]:
        """The tokens of a conversation, up to where the assistant speaks. Only the template writes
        control tokens. Raises `PromptError`."""
        size = sum(_OF_A_MESSAGE + len(message.text) for message in messages)
        return await aside(size, lambda: self.chat(messages, continues=continues))

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
        roles = tuple("system" if m.role == "developer" else m.role for m in messages)
        *before, last = self._chat.around(roles)
        control = self._chat.has_template
        extra = self._unspoken(roles, before)
        for text, message in zip(before, messages, strict=True):
            yield Piece(text.removesuffix(extra) if message.role == _ASSISTANT else text, control)
            yield Piece(message.text)
        if not continues:
            yield Piece(self._chat.before(roles, _ASSISTANT) if prompts else last, control)

    def _unspoken(self, roles: tuple[str, ...], before: Sequence[str]) -> str:
        """What a template writes before an assistant's words, a space say, where it leaves that to
        the model when it invites one: then the words have it already, and are found in the cache.
        """
        if _ASSISTANT not in roles:
            return ""
        first = roles.index(_ASSISTANT)
        prompt = self._chat.before(roles[:first], _ASSISTANT)
        return before[first][len(prompt) :] if before[first].startswith(prompt) else ""

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


async def aside(size: int, work: Callable[[], T]) -> T:
    """What the work gives; done on another thread if it is about more than a few characters."""
    return work() if size <= _SHORT else await asyncio.to_thread(work)

"""Roles for programs: what a chat template writes before and after each message.

A program appends one message after the other, long before it knows them all; a template renders
them at once. So the template is asked for its *layout*: it renders a mark in place of each
content, and what stands between two marks is the text between two messages, whatever they say. A
template that rewrites contents (strips them, drops old reasoning) rewrites a mark: a program's
context is append-only. Knows no tokens: `tokenizer.py` encodes the pieces.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

from jinja2 import TemplateError

from ramet.runtime.errors import PromptError
from ramet.runtime.tokenizer import Piece, Tokenizer

_ASSISTANT = "assistant"
_MARK = "ramet7c1f0e9b"
_MARKED = re.compile(rf"{_MARK}x(\d+)x")
# What may follow a message, asked where a template cannot end with it or its text depends on it.
_ENDINGS = ((), ("user",), (_ASSISTANT,))
_CACHED_LAYOUTS = 1024

Roles = tuple[str, ...]


class ChatFormat:
    """A tokenizer's chat template, asked for one gap between messages at a time.

    A tokenizer without a template gets plain lines, `User: ...` and `Assistant:`, in plain
    pieces; that is decided here, once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._hf = tokenizer.hf
        self.has_template = bool(self._hf.chat_template)
        self._layout = lru_cache(_CACHED_LAYOUTS)(self._find_layout)

    def start(self) -> "Conversation":
        """A conversation without messages."""
        return Conversation(self)

    def before(self, done: Roles, role: str) -> str:
        """What a template writes between the content of the last message done, or the start of
        the text, and that of a message with this role. For an assistant it is the generation
        prompt. Raises `PromptError` when the template refuses.
        """
        if role == _ASSISTANT:
            return self._generation_prompt(done)
        gaps = list(self._gaps((*done, role), len(done)))
        return gaps[0] if gaps else self._layout((*done, role))[len(done)]

    def after(self, done: Roles) -> str:
        """What a template surely writes after the last content, whatever comes next."""
        gaps = list(self._gaps(done, len(done)))
        with suppress(PromptError):
            gaps.append(self._layout(done, generate=True)[-1])
        return _common_start(gaps)

    def around(self, roles: Roles) -> tuple[str, ...]:
        """The texts around the contents of messages with these roles, one more than messages, all
        rendered at once. Raises `PromptError` when the template refuses."""
        return self._find_layout(roles)

    def _generation_prompt(self, done: Roles) -> str:
        """What invites the assistant to speak; with the first message, all that precedes it.

        A template without one writes something before the assistant's content all the same: that,
        without the space which is the model's to write.
        """
        written = self._layout((*done, _ASSISTANT))[len(done)]
        if done:
            prompt = self._layout(done, generate=True)[-1]
            if prompt != self._layout(done)[-1]:
                return prompt
        return written.rstrip(" ")

    def _gaps(self, roles: Roles, at: int) -> Iterator[str]:
        """The gap with this number in every ending of the conversation that the template takes."""
        for ending in _ENDINGS:
            try:
                yield self._layout(roles + ending)[at]
            except PromptError:
                continue

    def _find_layout(self, roles: Roles, generate: bool = False) -> tuple[str, ...]:
        """The texts around the contents of messages with these roles: one more than messages."""
        text = self._render(roles, generate)
        texts = _MARKED.split(text)
        if texts[1::2] != [str(index) for index in range(len(roles))]:
            raise PromptError(
                f"the chat template does not write the messages {_listed(roles)} one after another"
            )
        return tuple(texts[::2])

    def _render(self, roles: Roles, generate: bool) -> str:
        messages = [
            {"role": role, "content": f"{_MARK}x{index}x"} for index, role in enumerate(roles)
        ]
        if not self.has_template:
            return _plain(messages, generate)
        try:
            text = self._hf.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=generate
            )
        except (TemplateError, TypeError, ValueError) as error:
            role = roles[-1] if roles else _ASSISTANT
            raise PromptError(
                f"the chat template refuses a message with role {role!r} "
                f"after {_listed(roles[:-1])}: {error}"
            ) from error
        return str(text)


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of one state. `open` and `close` give the text to append and a new value."""

    format: ChatFormat
    roles: Roles = ()  # of the messages that are finished
    role: str | None = None  # of the message that is being written
    written: str = ""  # what was appended since the last content

    def open(self, role: str) -> "Turn":
        """The piece before the content of a message with this role.

        Raises `PromptError` when the template takes no such message here, or another is open.
        """
        if self.role is not None:
            raise PromptError(f"a message with role {self.role!r} is still open")
        text = self.format.before(self.roles, role)
        if not text.startswith(self.written):
            raise PromptError(
                f"the chat template cannot be written message by message: before role {role!r} "
                f"it would take back {self.written!r}"
            )
        return Turn(self._piece(text[len(self.written) :]), replace(self, role=role, written=""))

    def close(self) -> "Turn":
        """The piece after the content of the open message."""
        if self.role is None:
            raise PromptError("no message is open")
        roles = (*self.roles, self.role)
        text = self.format.after(roles)
        return Turn(self._piece(text), Conversation(self.format, roles, None, text))

    def _piece(self, text: str) -> Piece:
        return Piece(text, control=self.format.has_template)


class Turn(NamedTuple):
    """Text to append, and the conversation that has it."""

    piece: Piece
    conversation: Conversation


def _plain(messages: Iterable[dict[str, str]], generate: bool) -> str:
    lines = [f"{message['role'].capitalize()}: {message['content']}\n" for message in messages]
    return "".join(lines) + "Assistant:" * generate


def _common_start(texts: list[str]) -> str:
    return "".join(column[0] for column in takewhile(_all_equal, zip(*texts, strict=False)))


def _all_equal(column: tuple[str, ...]) -> bool:
    return len(set(column)) == 1


def _listed(roles: Roles) -> str:
    return ", ".join(map(repr, roles)) or "none"

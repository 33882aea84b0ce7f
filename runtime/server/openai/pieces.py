"""What the engine tells, as the pieces of a request's choices: a stream sends them one by one, an
answer puts them together, so both say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ramet.runtime.sampling import Draw
from ramet.runtime.server.asks import Ask, Delta, Ended, Item, Scored, Spent
from ramet.runtime.server.openai import logprobs
from ramet.runtime.server.openai.logprobs import CompletionLogprobs
from ramet.runtime.server.openai.prompts import Prompt
from ramet.runtime.tokenizer import Tokenizer

_LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Piece:
    """The next part of one choice."""

    index: int
    text: str = ""
    logprobs: dict[str, Any] | None = None
    finish: str | None = None  # "stop" or "length", in the last one


@dataclass(slots=True)
class Usage:
    """Of all prompts of a request together."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0

    def add(self, spent: Spent) -> None:
        self.prompt += spent.prompt
        self.cached += spent.reused
        self.generated += spent.generated

    def told(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.generated,
            "total_tokens": self.prompt + self.generated,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


class Pieces:
    """Of one request with its prompts, each with `n` choices.

    With `echo` a choice begins with its prompt. Log-probabilities are told in the shape of a chat,
    or of a completion.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        asks: Sequence[Ask],
        n: int,
        *,
        echo: Sequence[Prompt] | None = None,
        chat: bool = False,
    ) -> None:
        self.usage = Usage()
        self._tokenizer = tokenizer
        self._asks = asks
        self._n = n
        self._echo = echo
        self._chat = chat
        self._begun: set[int] = set()
        self._texts = [0] * (n * len(asks))  # characters told, without the prompt
        self._logprobs = [CompletionLogprobs(tokenizer) for _ in self._texts]

    def of(self, number: int, item: Item) -> list[Piece]:
        """What this item of that ask comes to."""
        match item:
            case Scored():
                return self._prompt(number, item)
            case Delta(sample=sample, text=text, draws=draws):
                pieces = self._prompt(number, None)
                return [*pieces, self._piece(number, sample, text, draws)]
            case Ended():
                pieces = self._prompt(number, None)
                rest = item.text[self._texts[self._index(number, item.sample)] :]
                finish = _LENGTH if item.finish_reason == _LENGTH else "stop"
                last = self._piece(number, item.sample, rest, item.draws, finish)
                return [*pieces, last]
            case Spent():
                self.usage.add(item)
                if self._asks[number].samples:
                    return []
                ends = [Piece(self._index(number, i), finish=_LENGTH) for i in range(self._n)]
                return [*self._prompt(number, None), *ends]

    def _index(self, number: int, sample: int) -> int:
        return number * self._n + sample

    def _prompt(self, number: int, scored: Scored | None) -> list[Piece]:
        """What every choice of the ask begins with."""
        if self._echo is None or number in self._begun:
            return []
        self._begun.add(number)
        prompt = self._echo[number]
        pieces: list[Piece] = []
        for sample in range(self._n):
            index, entries = self._index(number, sample), None
            if self._asks[number].params.logprobs is not None:
                scores, tops = (scored.logprobs, scored.tops) if scored else ([], [])
                entries = self._logprobs[index].of_prompt(prompt.tokens, prompt.text, scores, tops)
            pieces.append(Piece(index, prompt.text, entries))
        return pieces

    def _piece(
        self,
        number: int,
        sample: int,
        text: str,
        draws: Sequence[Draw],
        finish: str | None = None,
    ) -> Piece:
        index, entries = self._index(number, sample), None
        self._texts[index] += len(text)
        if self._asks[number].params.logprobs is not None:
            if self._chat:
                entries = logprobs.of_chat(draws, self._tokenizer)
            else:
                entries = self._logprobs[index].of(draws)
        return Piece(index, text, entries, finish)

"""Programs on a server with OpenAI's API: chat models by their messages, others by their text."""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ramet.compat.sglang.backend.base_backend import BaseBackend, State
from ramet.compat.sglang.backend.http import Server
from ramet.compat.sglang.chat_template import ChatTemplate, get_chat_template
from ramet.compat.sglang.choices import ChoicesDecision, ChoicesSamplingMethod
from ramet.compat.sglang.errors import BackendError, UnsupportedError
from ramet.compat.sglang.sampling import SglSamplingParams, listed

__all__ = ["OpenAI", "TokenUsage"]

_ADDRESS = "https://api.openai.com/v1"
_COMPLETION_MODELS = ("instruct", "davinci", "babbage", "curie", "ada")


@dataclass
class TokenUsage:
    """Tokens that the server counted, over all programs."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, usage: dict[str, Any] | None) -> None:
        with self._lock:
            self.prompt_tokens += (usage or {}).get("prompt_tokens") or 0
            self.completion_tokens += (usage or {}).get("completion_tokens") or 0

    def reset(self) -> None:
        with self._lock:
            self.prompt_tokens = self.completion_tokens = 0


class OpenAI(BaseBackend):
    """A model behind OpenAI's API, there or at any address that speaks it."""

    def __init__(
        self,
        model_name: str,
        is_chat_model: bool | None = None,
        chat_template: ChatTemplate | None = None,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        verify: Any = None,
    ) -> None:
        """Args:
        is_chat_model: by the model's name, if not given: names of completion models are not.
        api_key, base_url: else `$OPENAI_API_KEY` and `$OPENAI_BASE_URL`.
        """
        super().__init__()
        self.model_name = model_name
        if is_chat_model is None:
            is_chat_model = not any(part in model_name for part in _COMPLETION_MODELS)
        self.is_chat_model = is_chat_model
        self.chat_template = chat_template or get_chat_template("default")
        self.token_usage = TokenUsage()
        self._server = Server(
            base_url or os.environ.get("OPENAI_BASE_URL") or _ADDRESS,
            api_key or os.environ.get("OPENAI_API_KEY"),
            verify,
        )

    def get_model_name(self) -> str:
        return self.model_name

    # -- generating

    def generate(self, s: State, sampling_params: SglSamplingParams) -> tuple[str | list[str], Any]:
        answer = self._server.post(self._path, self._body(s, sampling_params))
        self.token_usage.add(answer.get("usage"))
        before, after = self._quotes(sampling_params)
        texts = [before + self._text(choice) + after for choice in answer["choices"]]
        meta = {"usage": answer.get("usage")}
        return (texts, meta) if (sampling_params.n or 1) > 1 else (texts[0], meta)

    def generate_stream(
        self, s: State, sampling_params: SglSamplingParams
    ) -> Iterator[tuple[str, Any]]:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        before, after = self._quotes(sampling_params)
        yield before, {}
        for event in self._server.stream(self._path, self._body(s, sampling_params) | options):
            self.token_usage.add(event.get("usage"))
            for choice in event["choices"]:
                yield self._text(choice), {}
        yield after, {}

    def _body(self, s: State, params: SglSamplingParams) -> dict[str, Any]:
        if params.regex or params.json_schema:
            raise UnsupportedError(
                "this API takes no regex and no json_schema for a gen; "
                "run the program on an engine of this project"
            )
        sampling = {
            "model": self.model_name,
            "n": params.n,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "frequency_penalty": params.frequency_penalty,
            "presence_penalty": params.presence_penalty,
        }
        stop = [*listed(params.stop), *self._typed_stops(params)]
        if stop:
            sampling["stop"] = stop
        if not self.is_chat_model:
            prompt = s.text_ + self._quotes(params)[0]
            return {**sampling, "max_tokens": params.max_new_tokens, "prompt": prompt}
        prefix, _ = self.chat_template.get_prefix_and_suffix("assistant", s.messages_)
        if s.cur_role != "assistant" or not s.text_.endswith(prefix):
            raise UnsupportedError(
                "a chat model writes whole messages: gen has to come first in "
                "sgl.assistant(...), and once"
            )
        tokens = {"max_completion_tokens": params.max_new_tokens}
        return {**sampling, **tokens, "messages": s.messages_}

    def _typed_stops(self, params: SglSamplingParams) -> list[str]:
        if params.dtype is None:
            return []
        name = params.dtype if isinstance(params.dtype, str) else params.dtype.__name__
        if self.is_chat_model or name not in {"int", "str"}:
            raise UnsupportedError(
                f"dtype {name} is not for this API: int and str are, on completion models"
            )
        return [" ", "\n", ".", ","] if name == "int" else ['"']

    def _quotes(self, params: SglSamplingParams) -> tuple[str, str]:
        """What stands around a generation of type str."""
        return ('"', '"') if params.dtype in (str, "str") else ("", "")

    @property
    def _path(self) -> str:
        return "/chat/completions" if self.is_chat_model else "/completions"

    def _text(self, choice: dict[str, Any]) -> str:
        if not self.is_chat_model:
            return choice.get("text") or ""
        return (choice.get("message") or choice.get("delta") or {}).get("content") or ""

    # -- choosing

    def select(
        self,
        s: State,
        choices: Sequence[str],
        temperature: float,
        choices_method: ChoicesSamplingMethod,
    ) -> ChoicesDecision:
        """The best mean log-probability, where the server echoes a prompt with them."""
        if self.is_chat_model:
            raise UnsupportedError("select needs log-probabilities: use a completion model")
        body = {
            "model": self.model_name,
            "prompt": [s.text_ + choice for choice in choices],
            "max_tokens": 0,
            "echo": True,
            "logprobs": 1,
        }
        answer = self._server.post("/completions", body)
        self.token_usage.add(answer.get("usage"))
        ordered = sorted(answer["choices"], key=lambda choice: choice["index"])
        scores = [_score(choice.get("logprobs"), len(s.text_)) for choice in ordered]
        best = max(range(len(choices)), key=scores.__getitem__)
        return ChoicesDecision(choices[best], {"scores": scores})

    def shutdown(self) -> None:
        self._server.close()


def _score(logprobs: dict[str, Any] | None, start: int) -> float:
    """The mean over the tokens that begin in the choice."""
    if not logprobs:
        raise BackendError("the server did not echo the prompt's log-probabilities")
    pairs = zip(logprobs["text_offset"], logprobs["token_logprobs"], strict=True)
    found = [logprob for offset, logprob in pairs if offset >= start and logprob is not None]
    return sum(found) / len(found) if found else 0.0

"""Programs on a server that has SGLang's routes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ramet.compat.sglang.backend.base_backend import BaseBackend, State
from ramet.compat.sglang.backend.http import Server
from ramet.compat.sglang.chat_template import (
    ChatTemplate,
    get_chat_template,
    get_chat_template_by_model_path,
)
from ramet.compat.sglang.choices import ChoicesDecision, ChoicesSamplingMethod
from ramet.compat.sglang.global_config import global_config
from ramet.compat.sglang.sampling import SglSamplingParams

__all__ = ["RuntimeEndpoint"]

_GREEDY_BELOW = 1e-5
_LOGPROB_OPTIONS = (
    "return_logprob",
    "logprob_start_len",
    "top_logprobs_num",
    "return_text_in_logprobs",
)


class RuntimeEndpoint(BaseBackend):
    """A server by its address. Raises `BackendError` when it does not answer."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        verify: Any = None,
        chat_template_name: str | None = None,
    ) -> None:
        super().__init__()
        self._server = Server(base_url, api_key, verify)
        self.base_url = self._server.base_url
        self.api_key = api_key
        self.verify = verify
        self.model_info: dict[str, Any] = self._server.get("/get_model_info")
        self.chat_template: ChatTemplate = (
            get_chat_template(chat_template_name)
            if chat_template_name
            else get_chat_template_by_model_path(self.get_model_name())
        )

    # -- generating

    def generate(self, s: State, sampling_params: SglSamplingParams) -> tuple[str | list[str], Any]:
        answer = self._server.post("/generate", self._body(s, sampling_params))
        if isinstance(answer, list):
            return [each["text"] for each in answer], [each["meta_info"] for each in answer]
        return answer["text"], answer["meta_info"]

    def generate_stream(
        self, s: State, sampling_params: SglSamplingParams
    ) -> Iterator[tuple[str, Any]]:
        body = {**self._body(s, sampling_params), "stream": True}
        seen = 0
        for event in self._server.stream("/generate", body):
            text = event["text"][seen:]
            seen += len(text)
            yield text, event["meta_info"]

    def _body(self, s: State, params: SglSamplingParams) -> dict[str, Any]:
        """A request to go on with the state's text."""
        own = params.without_dtype()
        options = {name: getattr(own, name) for name in _LOGPROB_OPTIONS}
        sampling = {
            "skip_special_tokens": global_config.skip_special_tokens_in_output,
            "spaces_between_special_tokens": global_config.spaces_between_special_tokens_in_out,
            **own.to_srt_kwargs(),
        }
        return {
            "text": s.text_,
            "sampling_params": sampling,
            **{name: value for name, value in options.items() if value is not None},
            **self._image(s),
        }

    def _image(self, s: State) -> dict[str, Any]:
        assert len(s.images_) <= 1, "a request takes one image"
        return {"image_data": s.images_[0][1]} if s.images_ else {}

    # -- choosing

    def select(
        self,
        s: State,
        choices: Sequence[str],
        temperature: float,
        choices_method: ChoicesSamplingMethod,
    ) -> ChoicesDecision:
        """Score every choice behind the text, from one token before its end on: the last token
        of the text may be another one with the choice behind it."""
        assert temperature <= _GREEDY_BELOW, "a select takes the best choice: temperature is 0"
        prefix = self._computed({"text": s.text_, **self._image(s)})
        start = max(prefix["meta_info"]["prompt_tokens"] - 2, 0)
        scored = self._computed(
            {
                "text": [s.text_ + choice for choice in choices],
                "return_logprob": True,
                "return_text_in_logprobs": True,
                "logprob_start_len": start,
                **self._image(s),
            }
        )
        inputs = [_behind(s.text_, each["meta_info"]["input_token_logprobs"]) for each in scored]
        outputs = [each["meta_info"].get("output_token_logprobs") or [] for each in scored]
        alone = None
        if choices_method.requires_unconditional_logprobs:
            ids = [[token[1] for token in tokens] for tokens in inputs]
            own = self._computed({"input_ids": ids, "return_logprob": True, "logprob_start_len": 0})
            alone = [each["meta_info"]["input_token_logprobs"] for each in own]
        return choices_method(
            choices=list(choices),
            normalized_prompt_logprobs=[_mean(tokens) for tokens in inputs],
            input_token_logprobs=inputs,
            output_token_logprobs=outputs,
            unconditional_token_logprobs=alone,
        )

    def _computed(self, body: Mapping[str, Any]) -> Any:
        """The answer to a request that generates nothing."""
        sampling = {"max_new_tokens": 0, "temperature": 0}
        return self._server.post("/generate", {**body, "sampling_params": sampling})

    # -- prefixes and the server

    def cache_prefix(self, prefix_str: str) -> None:
        self._computed({"text": prefix_str})

    def commit_lazy_operations(self, s: State) -> None:
        self._computed({"text": s.text_, **self._image(s)})

    def get_model_name(self) -> str:
        return self.model_info["model_path"]

    def flush_cache(self) -> Any:
        self._server.post("/flush_cache")
        return True

    def get_server_info(self) -> Any:
        return self._server.get("/server_info")

    def start_profile(self) -> None:
        self._server.post("/start_profile")

    def stop_profile(self) -> None:
        self._server.post("/stop_profile")

    def shutdown(self) -> None:
        """Close the connections; the server stays."""
        self._server.close()


def _behind(text: str, tokens: list[Any]) -> list[Any]:
    """The tokens without a first one that still belongs to the text."""
    first = tokens[0][2] if tokens else None
    return tokens[1:] if first and len(tokens) > 1 and text.endswith(first) else tokens


def _mean(tokens: list[Any]) -> float:
    known = [token[0] for token in tokens if token[0] is not None]
    return sum(known) / len(known) if known else 0.0

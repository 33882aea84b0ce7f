"""What a backend is: it goes on with the text of a state. Subclass it to bring your own."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ramet.compat.sglang.chat_template import ChatTemplate, get_chat_template
from ramet.compat.sglang.choices import ChoicesDecision, ChoicesSamplingMethod
from ramet.compat.sglang.sampling import SglSamplingParams

Meta = Any  # a dictionary, or a list of them for several samples


class State(Protocol):
    """What a backend sees of a state; a `StreamExecutor` is one."""

    sid: str
    text_: str  # all of it, with what the chat template wrote
    template_spans: list[tuple[int, int]]  # of the text: what the chat template wrote
    messages_: list[dict[str, Any]]  # those that are complete
    cur_role: str | None
    images_: list[tuple[Any, str]]  # as given, and in base64
    fork_start_text_pos: int | None
    num_api_spec_tokens: int | None
    place: str  # which run, and where among the forks: "4/1.0.0"
    steps: int  # generations and choices so far


class BaseBackend:
    """Methods are called by the workers of states, several at a time. All but three may stay."""

    support_concate_and_append = False

    def __init__(self) -> None:
        self.chat_template: ChatTemplate = get_chat_template("default")

    # -- what a backend has to do

    def generate(
        self, s: State, sampling_params: SglSamplingParams
    ) -> tuple[str | list[str], Meta]:
        """Text after `s.text_`, or a list of texts for n > 1, and what is known about it."""
        raise NotImplementedError(f"{type(self).__name__} has no generate")

    def generate_stream(
        self, s: State, sampling_params: SglSamplingParams
    ) -> Iterator[tuple[str, Meta]]:
        """The same in pieces, each with what is known by then."""
        raise NotImplementedError(f"{type(self).__name__} has no generate_stream")

    def select(
        self,
        s: State,
        choices: Sequence[str],
        temperature: float,
        choices_method: ChoicesSamplingMethod,
    ) -> ChoicesDecision:
        """The best of these continuations of `s.text_`."""
        raise NotImplementedError(f"{type(self).__name__} has no select")

    # -- what it may want to know

    def get_model_name(self) -> str:
        raise NotImplementedError(f"{type(self).__name__} has no get_model_name")

    def get_chat_template(self) -> ChatTemplate:
        return self.chat_template

    def cache_prefix(self, prefix_str: str) -> None:
        """Text that a batch of programs will begin with."""

    def uncache_prefix(self, rid: str) -> None: ...

    def end_request(self, rid: str | Sequence[str]) -> None: ...

    def begin_program(self, s: State) -> None: ...

    def end_program(self, s: State | Sequence[State]) -> None:
        """The state will not go on."""

    def commit_lazy_operations(self, s: State) -> None:
        """The text of the state is about to be shared by branches."""

    def fork_program(
        self,
        src: State,
        dst: State,
        position_ids_offset: Sequence[int] | None = None,
    ) -> None:
        """`dst` was made as a branch of `src`, and has its text."""

    def fill_image(self, s: State) -> None: ...

    def concatenate_and_append(self, src_rids: Sequence[str], dst_rid: str) -> None:
        """The state `dst_rid` got the texts of these states; asked if it is supported."""
        raise NotImplementedError(f"{type(self).__name__} has no concatenate_and_append")

    def shutdown(self) -> None: ...

    def flush_cache(self) -> Any: ...

    def get_server_info(self) -> Any: ...

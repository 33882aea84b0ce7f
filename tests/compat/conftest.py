"""A scripted backend, engines on the toy model, and the rule that no thread is left behind."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import ramet.compat.sglang as sgl
from ramet.compat.sglang.backend.base_backend import BaseBackend, State
from ramet.compat.sglang.choices import ChoicesDecision, ChoicesSamplingMethod
from ramet.compat.sglang.sampling import SglSamplingParams
from tests.runtime.conftest import byte_tokenizer, toy_engine

__all__ = ["byte_tokenizer", "toy_engine"]

Answer = Callable[[str], Any]  # from the text so far to what comes next


class Scripted(BaseBackend):
    """Answers from a function of the text; a select takes the longest choice."""

    def __init__(self, answer: Answer | str = "ok", template: str = "default") -> None:
        super().__init__()
        self.chat_template = sgl_template(template)
        self.answer: Answer = (lambda text: answer) if isinstance(answer, str) else answer
        self.delay = 0.0
        self.seen: list[str] = []
        self.params: list[SglSamplingParams] = []
        self.hints: list[str] = []
        self.prefixes: list[str] = []
        self.ended: list[str] = []
        self.images: list[Any] = []

    def generate(self, s: State, sampling_params: SglSamplingParams) -> tuple[Any, Any]:
        self.seen.append(s.text_)
        self.params.append(sampling_params)
        self.images = s.images_
        time.sleep(self.delay)
        text = self.answer(s.text_)
        return text, {"completion_tokens": len(text)}

    def generate_stream(
        self, s: State, sampling_params: SglSamplingParams
    ) -> Iterator[tuple[str, Any]]:
        text, meta = self.generate(s, sampling_params)
        for at, letter in enumerate(text):
            time.sleep(self.delay)
            yield letter, {**meta, "output_token_logprobs": [[-1.0, at, letter]]}

    def select(
        self,
        s: State,
        choices: Sequence[str],
        temperature: float,
        choices_method: ChoicesSamplingMethod,
    ) -> ChoicesDecision:
        self.seen.append(s.text_)
        return ChoicesDecision(max(choices, key=len), {"temperature": temperature})

    def commit_lazy_operations(self, s: State) -> None:
        self.hints.append(s.text_)

    def cache_prefix(self, prefix_str: str) -> None:
        self.prefixes.append(prefix_str)

    def end_program(self, s: Any) -> None:
        self.ended.append(s.text_)


def sgl_template(name: str) -> Any:
    from ramet.compat.sglang.lang.chat_template import get_chat_template

    return get_chat_template(name)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    backend = Scripted()
    sgl.set_default_backend(backend)
    yield backend
    sgl.set_default_backend(None)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.name.startswith("sgl-")]
    for thread in left:
        thread.join(timeout=5)
    assert not [thread for thread in left if thread.is_alive()]


def until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it comes true within the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.005)
    return true()

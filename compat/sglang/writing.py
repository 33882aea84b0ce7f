"""What a state has, and what each kind of expression does to it: one method for each.

Knows no queue and no thread but the condition that tells of changes; `executor.py` has those.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ramet.compat.sglang import expressions as sgl
from ramet.compat.sglang.backend.base_backend import BaseBackend
from ramet.compat.sglang.chat_template import ChatTemplate
from ramet.compat.sglang.images import image_base64
from ramet.compat.sglang.logprobs import grown
from ramet.compat.sglang.reasoning import ReasoningParser
from ramet.compat.sglang.sampling import SglSamplingParams


class StateWriter:
    """Text, messages and variables of a state, as a backend sees them."""

    def __init__(
        self,
        backend: BaseBackend,
        arguments: Mapping[str, Any] | None,
        default_sampling_para: SglSamplingParams | None,
        chat_template: ChatTemplate | None,
        stream: bool,
        num_api_spec_tokens: int | None,
        place: str,
    ) -> None:
        self.sid = uuid.uuid4().hex
        self.backend = backend
        self.arguments = dict(arguments or {})
        self.default_sampling_para = default_sampling_para or SglSamplingParams()
        self.chat_template = chat_template or backend.get_chat_template()
        self.stream = stream
        self.num_api_spec_tokens = num_api_spec_tokens
        self.place = place  # which run, and where among the forks: "4/1.0.0"

        self.text_ = ""
        self.messages_: list[dict[str, Any]] = []
        self.cur_role: str | None = None
        self.cur_role_begin_pos = 0
        self.images_: list[tuple[Any, str]] = []
        self.cur_images: list[tuple[Any, str]] = []
        self.fork_start_text_pos: int | None = None
        self.template_spans: list[tuple[int, int]] = []  # of the text: what the template wrote
        self.steps = 0  # generations and choices so far

        self.variables: dict[Any, Any] = {}
        self.variable_event: dict[Any, threading.Event] = {}
        self.meta_info: dict[Any, Any] = {}
        self.lost: dict[Any, BaseException] = {}  # variables that will get no value, and why
        self.error_: BaseException | None = None
        self._scopes: dict[str, int] = {}
        self._changed = threading.Condition()
        self._watchers: set[Callable[[], None]] = set()

    def _copy_to(self, branch: "StateWriter") -> None:
        """A branch begins with all that is here, but for what is known about variables."""
        branch.text_ = self.text_
        branch.messages_ = list(self.messages_)
        branch.cur_role = self.cur_role
        branch.cur_role_begin_pos = self.cur_role_begin_pos
        branch.images_ = list(self.images_)
        branch.cur_images = list(self.cur_images)
        branch.fork_start_text_pos = len(self.text_)
        branch.template_spans = list(self.template_spans)
        branch.variables = dict(self.variables)
        branch.lost = dict(self.lost)
        branch.error_ = self.error_
        branch._scopes = dict(self._scopes)

    def _notify(self) -> None:
        self._changed.notify_all()
        for watcher in list(self._watchers):
            watcher()

    def _announce(self, expr: Any) -> None:
        """From now on who reads these variables waits."""
        match expr:
            case sgl.SglExprList():
                for each in expr.expr_list:
                    self._announce(each)
            case sgl.SglGen() | sgl.SglSelect() | sgl.SglVarScopeBegin():
                self.variable_event[expr.name] = threading.Event()
            case sgl.SglSeparateReasoning():
                self.variable_event[expr.reasoning] = threading.Event()

    def _execute(self, expr: Any) -> None:
        match expr:
            case str():
                self._fill(expr)
            case sgl.SglConstantText():
                self._fill(expr.value)
            case sgl.SglExprList():
                for each in expr.expr_list:
                    self._execute(each)
            case sgl.SglGen():
                self._gen(expr)
            case sgl.SglSelect():
                self._select(expr)
            case sgl.SglRoleBegin():
                self._role_begin(expr.role)
            case sgl.SglRoleEnd():
                self._role_end(expr.role)
            case sgl.SglVariable():
                self._fill(str(expr.source.get_var(expr.name)))
            case sgl.SglVarScopeBegin():
                self._scopes[expr.name] = len(self.text_)
            case sgl.SglVarScopeEnd():
                self._bind(expr.name, self.text_[self._scopes.pop(expr.name) :])
            case sgl.SglCommitLazy():
                self.backend.commit_lazy_operations(self)
            case sgl.SglConcateAndAppend():
                self._concatenate(expr)
            case sgl.SglSeparateReasoning():
                pass  # the gen before it has done it
            case sgl.SglImage():
                self._image(expr)
            case sgl.SglVideo():
                raise NotImplementedError("video is not supported: only text and images are")
            case _:
                raise AssertionError(f"{expr!r} cannot be appended to a state")

    # -- one method for each kind

    def _fill(self, text: str, *, template: bool = False) -> None:
        with self._changed:
            if template and text:
                self.template_spans.append((len(self.text_), len(self.text_) + len(text)))
            self.text_ += text
            self._notify()

    def _gen(self, expr: sgl.SglGen) -> None:
        params = self.default_sampling_para.overridden_by(expr.sampling_params)
        params = params.with_stops(self.chat_template.stop_str)
        self.steps += 1
        if self.stream and (params.n or 1) == 1 and expr.apart is None:
            self._gen_stream(expr.name, params)
            return
        text, meta = self.backend.generate(self, sampling_params=params)
        if expr.apart is not None:
            text = self._without_reasoning(expr.apart, text)
        self._fill(text if isinstance(text, str) else text[0])
        self._bind(expr.name, text, meta)

    def _gen_stream(self, name: Any, params: SglSamplingParams) -> None:
        with self._changed:
            self.variables[name] = ""
            self.meta_info[name] = {}
        for text, meta in self.backend.generate_stream(self, sampling_params=params):
            with self._changed:
                self.variables[name] += text
                self.meta_info[name] = grown(self.meta_info[name], meta)
                self._fill(text)
        self._bind(name, self.variables[name], self.meta_info[name])

    def _select(self, expr: sgl.SglSelect) -> None:
        self.steps += 1
        decided = self.backend.select(self, expr.choices, expr.temperature, expr.choices_method)
        self._fill(decided.decision)
        self._bind(expr.name, decided.decision, decided.meta_info)

    def _bind(self, name: Any, value: Any, meta: Any = None) -> None:
        with self._changed:
            self.variables[name] = value
            if meta is not None:
                self.meta_info[name] = meta
            self.variable_event[name].set()
            self._notify()

    def _role_begin(self, role: str) -> None:
        assert self.cur_role is None, "Nested roles are not allowed."
        default = self.chat_template.default_system_prompt
        if not self.messages_ and role != "system" and default:
            self._role_begin("system")
            self._fill(default)
            self._role_end("system")
        prefix, _ = self.chat_template.get_prefix_and_suffix(role, self.messages_)
        self._fill(prefix, template=True)
        self.cur_role = role
        self.cur_role_begin_pos = len(self.text_)

    def _role_end(self, role: str) -> None:
        assert self.cur_role == role, f"the open role is {self.cur_role!r}, not {role!r}"
        content = self.text_[self.cur_role_begin_pos :].lstrip()
        _, suffix = self.chat_template.get_prefix_and_suffix(role, self.messages_)
        self._fill(suffix, template=True)
        self.messages_.append({"role": role, "content": self._content(content)})
        self.cur_images = []
        self.cur_role = None

    def _content(self, text: str) -> Any:
        if not self.cur_images:
            return text
        urls = [f"data:image/jpeg;base64,{data}" for _, data in self.cur_images]
        images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return [{"type": "text", "text": text}, *images]

    def _image(self, expr: sgl.SglImage) -> None:
        image = (expr.path, image_base64(expr.path))
        self.images_.append(image)
        self.cur_images.append(image)
        self._fill(self.chat_template.image_token)

    def _concatenate(self, expr: sgl.SglConcateAndAppend) -> None:
        branches = [state.stream_executor for state in expr.states]
        for branch in branches:
            branch.sync()
        self._fill("".join(b.text_[b.fork_start_text_pos or 0 :] for b in branches))
        if self.backend.support_concate_and_append:
            self.backend.concatenate_and_append([b.sid for b in branches], self.sid)

    def _without_reasoning(self, apart: sgl.SglSeparateReasoning, text: str | list[str]) -> str:
        if not isinstance(text, str):
            raise ValueError("separate_reasoning needs a gen of one sample: n is over 1")
        parted = ReasoningParser(apart.model_type).parse_non_stream(text)
        self._bind(apart.reasoning, parted.reasoning)
        return parted.normal

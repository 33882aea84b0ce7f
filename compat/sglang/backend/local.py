"""Programs on an engine in this process: states become sequences of one continuous batch.

A state's sequence keeps what was computed and what was generated, as tokens; a branch shares it
block by block. Text is tokenized when tokens are needed, together with the text next to it, and
generated tokens are never tokenized again.
"""

from collections.abc import Iterator, Sequence as Listed
from itertools import takewhile
from queue import SimpleQueue
from typing import Any

from ramet.compat.sglang.backend import told
from ramet.compat.sglang.backend.base_backend import BaseBackend, State
from ramet.compat.sglang.backend.contexts import Context, Contexts
from ramet.compat.sglang.backend.model_template import ModelChatTemplate
from ramet.compat.sglang.backend.requests import Request, request_of_gen
from ramet.compat.sglang.backend.work import Desk, Tasks, Work
from ramet.compat.sglang.chat_template import (
    ChatTemplate,
    get_chat_template,
    get_chat_template_by_model_path,
)
from ramet.compat.sglang.choices import ChoicesDecision, ChoicesSamplingMethod
from ramet.compat.sglang.sampling import SglSamplingParams
from ramet.params import SamplingParams
from ramet.runtime.async_engine import AsyncEngine
from ramet.runtime.chat import ChatFormat
from ramet.runtime.engine import Engine
from ramet.runtime.errors import PromptError
from ramet.runtime.sampling import sample_key
from ramet.runtime.sequence import Generation, Scoring, Sequence
from ramet.runtime.tokenizer import Piece

_GREEDY_BELOW = 1e-5


class LocalBackend(BaseBackend):
    """Runs programs on an engine of `ramet.runtime`; others may use the engine, too."""

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        *,
        chat_template: str | ChatTemplate | None = None,
        control_in_text: bool = False,
    ) -> None:
        """Args:
        chat_template: one of SGLang's, or a name of one; the model's own, if not given.
        control_in_text: read control tokens in all text, not only in what a template writes.
        """
        super().__init__()
        self.work = Work(engine)
        self._engine = self.work.engine
        self._tokenizer = self._engine.tokenizer
        self._contexts = Contexts(self.work, self._tokenizer, control_in_text)
        self.chat_template = self._template(chat_template)

    def _template(self, given: str | ChatTemplate | None) -> ChatTemplate:
        if given is not None:
            return get_chat_template(given) if isinstance(given, str) else given
        format = ChatFormat(self._tokenizer)
        if format.has_template:
            return ModelChatTemplate(self.get_model_name(), format)
        return get_chat_template_by_model_path(self.get_model_name())

    # -- generating

    def generate(self, s: State, sampling_params: SglSamplingParams) -> tuple[str | list[str], Any]:
        request = self._request(s, sampling_params)
        if request.empty:
            return "", self._prefill(s, request)
        context, tokens = self._contexts.rest(s)
        inputs = self._input_logprobs(context, tokens, request)
        forks: list[Sequence] = []

        def submit(desk: Desk) -> None:
            sequence = context.extend(desk, tokens)
            forks.extend(desk.core.fork(sequence) for _ in range(request.n - 1))
            for index, each in enumerate([sequence, *forks]):
                key = self._key(s, index)
                desk.generate(each, request.params, key=key, type=request.type)

        try:
            tasks = _generations(self.work.run(submit))
        except BaseException:
            self._contexts.forget(context)
            raise
        finally:
            self._contexts.close(forks)
        context.seen = s.text_ + _spelled(tasks[0])
        texts = [task.text.text for task in tasks]
        metas = [self._told(task, request) | inputs for task in tasks]
        return (texts, metas) if request.n > 1 else (texts[0], metas[0])

    def generate_stream(
        self, s: State, sampling_params: SglSamplingParams
    ) -> Iterator[tuple[str, Any]]:
        request = self._request(s, sampling_params)
        if request.empty:
            yield "", self._prefill(s, request)
            return
        context, tokens = self._contexts.rest(s)
        inputs = self._input_logprobs(context, tokens, request)
        text, told_of = s.text_, 0
        pieces: SimpleQueue[str | None] = SimpleQueue()
        begun: list[Generation] = []

        def submit(desk: Desk) -> None:
            sequence = context.extend(desk, tokens)
            task = desk.generate(
                sequence,
                request.params,
                key=self._key(s, 0),
                on_text=pieces.put,
                type=request.type,
            )
            begun.append(task)

        result = self.work.start(submit)
        result.add_done_callback(lambda _: pieces.put(None))
        try:
            while (piece := pieces.get()) is not None:
                meta = self._told(begun[0], request, told_of) | inputs
                told_of = meta.get("output_token_logprobs_length", 0)
                yield piece, meta
            [task] = _generations(result.result())
        except BaseException:
            self._contexts.forget(context)  # which ends the task, too
            raise
        context.seen = text + _spelled(task)
        yield "", self._told(task, request, told_of) | inputs

    def _prefill(self, s: State, request: Request) -> dict[str, Any]:
        """No text: the context is computed, and the likeliest next tokens are told."""
        self.commit_lazy_operations(s)
        context = self._contexts.of(s)
        inputs = self._input_logprobs(context, self._contexts.rest(s).tokens, request)
        params = SamplingParams(max_tokens=1, logprobs=request.params.logprobs)
        probe: list[Sequence] = []

        def submit(desk: Desk) -> None:
            if context.shared is None or not context.shared.tokens:
                raise PromptError("there is no text to continue: the prompt is empty")
            probe.append(desk.core.fork(context.shared))
            desk.generate(probe[0], params, key=0)

        try:
            [task] = _generations(self.work.run(submit))
        finally:
            self._contexts.close(probe)
        nothing = {"completion_tokens": 0, "finish_reason": {"type": "length", "length": 0}}
        return self._told(task, request) | nothing | inputs

    def _input_logprobs(
        self, context: Context, tokens: list[int], request: Request
    ) -> dict[str, Any]:
        """`input_token_logprobs` of the prompt, where they are asked for."""
        start = request.logprobs.start
        if not request.logprobs.wanted or start is None or start < 0:
            return {}
        probe: list[Sequence] = []

        def submit(desk: Desk) -> None:
            known = context.sequence.tokens if context.sequence is not None else []
            probe.append(desk.open([*known, *tokens]))
            desk.score(probe[0], min(max(1, start), len(probe[0].tokens)))

        try:
            [task] = self.work.run(submit)
        finally:
            self._contexts.close(probe)
        assert isinstance(task, Scoring)
        prompt, decode = probe[0].tokens, self._tokenizer.decode
        entries = told.input_entries(prompt, task, request.logprobs, decode)
        return {"input_token_logprobs": entries}

    # -- choosing

    def select(
        self,
        s: State,
        choices: Listed[str],
        temperature: float,
        choices_method: ChoicesSamplingMethod,
    ) -> ChoicesDecision:
        assert temperature <= _GREEDY_BELOW, "a select takes the best choice: temperature is 0"
        self._refuse_images(s)
        context, tokens = self._contexts.rest(s)
        pieces = self._contexts.pieces(s, context)
        ways = [self._contexts.encoded(context, [*pieces, Piece(each)]) for each in choices]
        shared = _common([tokens, *ways], most=min(map(len, ways)) - 1)
        heads = [way[shared:] for way in ways]
        forks: list[Sequence] = []

        def prepare(desk: Desk) -> None:
            sequence = context.extend(desk, ways[0][:shared])
            if not sequence.tokens:
                raise PromptError("select needs some text before it to score its options on")
            desk.score(sequence, len(sequence.tokens))

        def score(desk: Desk) -> None:
            assert context.sequence is not None, "it was prepared"
            start = len(context.sequence.tokens)
            for head in heads:
                forks.append(desk.core.fork(context.sequence))
                forks[-1].tokens += head
                desk.score(forks[-1], start)

        try:
            self.work.run(prepare)
            scored = _logprobs(self.work.run(score))
            decided = self._decide(choices, heads, scored, choices_method)
            chosen = list(choices).index(decided.decision)
        except BaseException:
            self._contexts.forget(context)
            self._contexts.close(forks)
            raise

        def keep(desk: Desk) -> None:
            context.release(desk)
            context.sequence = forks.pop(chosen)
            for each in forks:
                desk.core.close(each)

        self._contexts.later(keep)
        context.seen = s.text_ + decided.decision
        return decided

    def _decide(
        self,
        choices: Listed[str],
        tokens: list[list[int]],
        scored: list[list[float]],
        method: ChoicesSamplingMethod,
    ) -> ChoicesDecision:
        decode = self._tokenizer.decode
        inputs = [told.choice_entries(*each, decode) for each in zip(tokens, scored, strict=True)]
        alone = None
        if method.requires_unconditional_logprobs:
            own = [[None, *each] for each in self._alone(tokens)]
            alone = [told.choice_entries(*each, decode) for each in zip(tokens, own, strict=True)]
        return method(
            choices=list(choices),
            normalized_prompt_logprobs=[sum(each) / len(each) for each in scored],
            input_token_logprobs=inputs,
            output_token_logprobs=[[] for _ in choices],
            unconditional_token_logprobs=alone,
        )

    def _alone(self, options: list[list[int]]) -> list[list[float]]:
        """Log-probabilities of each option's tokens but the first, without the context."""
        opened: list[Sequence] = []

        def submit(desk: Desk) -> None:
            for tokens in options:
                opened.append(desk.open(tokens))
                desk.score(opened[-1], 1)

        try:
            return _logprobs(self.work.run(submit))
        finally:
            self._contexts.close(opened)

    # -- what states tell

    def fork_program(
        self,
        src: State,
        dst: State,
        position_ids_offset: Listed[int] | None = None,
    ) -> None:
        self._contexts.fork(src, dst)

    def commit_lazy_operations(self, s: State) -> None:
        """Compute the whole text, where branches find it; they tokenize its end with their own."""
        context, tokens = self._contexts.rest(s)

        def submit(desk: Desk) -> None:
            if context.shared is not None:
                desk.core.close(context.shared)
            known = context.sequence
            context.shared = desk.open() if known is None else desk.core.fork(known)
            context.shared.tokens += tokens
            if context.shared.tokens:
                desk.score(context.shared, len(context.shared.tokens))

        self.work.run(submit)

    def end_program(self, s: State | Listed[State]) -> None:
        for each in s if isinstance(s, Listed) else [s]:
            self._contexts.end(each)

    def cache_prefix(self, prefix_str: str) -> None:
        """Compute the text; it stays as long as nobody needs the room."""
        tokens = self._tokenizer.encode([Piece(prefix_str, control=True)], start=True)
        opened: list[Sequence] = []

        def submit(desk: Desk) -> None:
            opened.append(desk.open(tokens))
            desk.score(opened[0], len(tokens))

        try:
            self.work.run(submit)
        finally:
            self._contexts.close(opened)

    # -- the engine

    def get_model_name(self) -> str:
        return self._engine.config.model

    def get_server_info(self) -> dict[str, Any]:
        return {"model_path": self.get_model_name(), "stats": self._engine.stats()}

    def flush_cache(self) -> bool:
        """Forget all prefixes that no running state holds."""
        self.work.run(lambda desk: desk.clear())
        return True

    def shutdown(self) -> None:
        """Give back what states hold. The engine stays open: it belongs to who made it."""
        self._contexts.end_all()

    # -- helpers

    def _request(self, s: State, params: SglSamplingParams) -> Request:
        self._refuse_images(s)
        return request_of_gen(params, self.control_token)

    def control_token(self, text: str) -> int | None:
        """The control token that this text spells, if it spells one."""
        token = self._tokenizer.hf.backend_tokenizer.token_to_id(text)
        return token if token in self._tokenizer.control_ids else None

    def _refuse_images(self, s: State) -> None:
        if s.images_:
            raise PromptError(
                f"{self.get_model_name()} runs on an engine that reads text only; "
                "send images to a server with RuntimeEndpoint"
            )

    def _told(self, task: Generation, request: Request, since: int = 0) -> dict[str, Any]:
        return told.meta_of(task, request.logprobs, self._tokenizer.decode, since)

    def _key(self, s: State, sample: int) -> int:
        return sample_key(self._engine.config.seed, f"{s.place}:{s.steps}", sample)


def _spelled(task: Generation) -> str:
    """What the tokens spell that the sequence keeps of a generation."""
    return task.text.text.removesuffix(task.text.leftover)


def _generations(tasks: Tasks) -> list[Generation]:
    return [task for task in tasks if isinstance(task, Generation)]


def _logprobs(tasks: Tasks) -> list[list[float]]:
    return [task.logprobs for task in tasks if isinstance(task, Scoring)]


def _common(ways: list[list[int]], most: int) -> int:
    """How many leading tokens all the ways share, and at most that many."""
    columns = zip(*ways, strict=False)
    return min(most, sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns)))

"""SGLang's offline engine: `Engine(model_path=...).generate(prompts, sampling_params)`."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import Any, Self

from ramet.compat.sglang.backend import told
from ramet.compat.sglang.backend.local import LocalBackend
from ramet.compat.sglang.backend.requests import Logprobs, Request, request_of
from ramet.compat.sglang.backend.work import Desk, Tasks
from ramet.compat.sglang.errors import UnsupportedError
from ramet.compat.sglang.server_args import ServerArgs
from ramet.params import SamplingParams
from ramet.runtime.engine import Engine as RametEngine
from ramet.runtime.errors import EngineClosed
from ramet.runtime.sampling import sample_key
from ramet.runtime.sequence import Generation, Scoring, Sequence as EngineSequence

Answer = dict[str, Any]  # "text", "output_ids", "meta_info"


class Engine:
    """One model in this process. Prompts are whole texts: their control tokens are read."""

    def __init__(self, *, server_args: ServerArgs | None = None, **settings: Any) -> None:
        """Load a model.

        Args:
            server_args: settings of SGLang's engine; or give them one by one, `model_path` first.

        Raises:
            UnsupportedError: a setting asks for what is not here.
            ModelError: the model cannot be found or loaded.
        """
        self.server_args = server_args or ServerArgs.of(settings)
        engine = RametEngine(**self.server_args.engine_settings())
        self._set_up(engine, self.server_args.chat_template)

    @classmethod
    def of(cls, engine: RametEngine) -> Self:
        """The same face on an engine that is there already."""
        self = cls.__new__(cls)
        self.server_args = ServerArgs(model_path=engine.config.model)
        self._set_up(engine, None)
        return self

    def _set_up(self, engine: RametEngine, chat_template: str | None) -> None:
        self.engine = engine
        self.endpoint = LocalBackend(engine, chat_template=chat_template)  # to run programs on
        self._work = self.endpoint.work
        self._numbers = count()

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, as transformers loads it."""
        return self.engine.tokenizer.hf

    # -- generating

    def generate(
        self,
        prompt: str | Sequence[str] | None = None,
        sampling_params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        input_ids: Sequence[Any] | None = None,
        stream: bool = False,
        **options: Any,
    ) -> Any:
        """Continue a prompt, or several together.

        Args:
            prompt: a text, or a list of them; or `input_ids`, their tokens.
            sampling_params: settings by SGLang's names, for all prompts or one mapping for each.
            stream: hand out answers as they grow; of several, each with its `index`.
            options: `return_logprob`, `logprob_start_len`, `top_logprobs_num`,
                `return_text_in_logprobs`.

        Returns an answer, a dictionary of `text`, `output_ids` and `meta_info`; or a list where
        the prompt is one or `n` is over 1; or an iterator.
        """
        batch = self._batch(prompt, input_ids, sampling_params, options)
        if stream:
            return self._stream(batch)
        futures = [self._begin(job) for job in batch.jobs]
        return batch.shaped([self._end(*each) for each in zip(batch.jobs, futures, strict=True)])

    async def async_generate(
        self,
        prompt: str | Sequence[str] | None = None,
        sampling_params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        input_ids: Sequence[Any] | None = None,
        stream: bool = False,
        **options: Any,
    ) -> Any:
        """`generate` for a coroutine; with `stream` an asynchronous iterator."""
        batch = self._batch(prompt, input_ids, sampling_params, options)
        if stream:
            return self._async_stream(batch)
        futures = [self._begin(job) for job in batch.jobs]
        await asyncio.gather(*map(asyncio.wrap_future, futures))
        return batch.shaped([self._end(*each) for each in zip(batch.jobs, futures, strict=True)])

    def _batch(
        self, prompt: Any, input_ids: Any, sampling: Any, options: dict[str, Any]
    ) -> "_Batch":
        logprobs = Logprobs(
            wanted=bool(options.pop("return_logprob", False)),
            top=options.pop("top_logprobs_num", None) or 0,
            start=options.pop("logprob_start_len", None),
            texts=options.pop("return_text_in_logprobs", True),
        )
        for name, value in options.items():
            if value not in (None, False):
                raise UnsupportedError(f"generate({name}=...) is not supported")
        jobs = self._jobs(prompt, input_ids, sampling, logprobs)
        return _Batch(jobs, _is_batch(input_ids) if prompt is None else not isinstance(prompt, str))

    def _jobs(
        self,
        prompt: str | Sequence[str] | None,
        input_ids: Sequence[Any] | None,
        sampling: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        logprobs: Logprobs,
    ) -> "list[_Job]":
        if (prompt is None) == (input_ids is None):
            raise ValueError("give either a prompt or input_ids")
        if prompt is not None:
            texts = [prompt] if isinstance(prompt, str) else list(prompt)
            tokens = [self.tokenizer(text)["input_ids"] for text in texts]
        else:
            given: Any = input_ids
            tokens = list(given) if _is_batch(given) else [given]
        settings: list[Any] = [sampling] * len(tokens)
        if isinstance(sampling, list | tuple):
            settings = list(sampling)
        if len(settings) != len(tokens):
            raise ValueError(f"{len(settings)} sampling_params for {len(tokens)} prompts")
        control = self.endpoint.control_token
        return [
            _Job(index, list(ids), request_of(each or {}, logprobs, control), next(self._numbers))
            for index, (ids, each) in enumerate(zip(tokens, settings, strict=True))
        ]

    def _begin(self, job: "_Job", on_text: Callable[[str], None] | None = None) -> "Future[Tasks]":
        request = job.request
        seed, place = request.params.seed, "engine"
        if seed is None:
            seed, place = self.engine.config.seed, f"engine/{job.number}"

        def submit(desk: Desk) -> None:
            opened = [desk.open(job.tokens) for _ in range(request.n)]
            job.opened.extend(opened)
            if request.logprobs.wanted and request.logprobs.start is not None:
                job.opened.append(desk.open(job.tokens))
                desk.score(job.opened[-1], min(max(1, request.logprobs.start), len(job.tokens)))
            params = SamplingParams(max_tokens=1, logprobs=request.params.logprobs)
            for index, sequence in enumerate(opened):
                key = sample_key(seed, place, index)
                desk.generate(
                    sequence,
                    params if request.empty else request.params,
                    key=key,
                    on_text=on_text,
                    type=None if request.empty else request.type,
                )

        future = self._work.start(submit)
        future.add_done_callback(lambda _: self._close(job))
        return future

    def _close(self, job: "_Job") -> None:
        def call(desk: Desk) -> None:
            for sequence in job.opened:
                desk.core.close(sequence)

        with suppress(EngineClosed):
            self._work.start(call)

    def _end(self, job: "_Job", future: "Future[Tasks]") -> list[Answer]:
        tasks = future.result()
        decode, logprobs = self.engine.tokenizer.decode, job.request.logprobs
        inputs: dict[str, Any] = {}
        for task in tasks:
            if isinstance(task, Scoring):
                entries = told.input_entries(job.tokens, task, logprobs, decode)
                inputs["input_token_logprobs"] = entries
        made = [task for task in tasks if isinstance(task, Generation)]
        return [self._answer(job, task, inputs) for task in made]

    def _answer(self, job: "_Job", task: Generation, more: Mapping[str, Any]) -> Answer:
        meta = told.meta_of(task, job.request.logprobs, self.engine.tokenizer.decode) | dict(more)
        text, ids = task.text.text, list(task.drawn)
        if job.request.empty:
            text, ids = "", []
            meta |= {"completion_tokens": 0, "finish_reason": {"type": "length", "length": 0}}
        return {"text": text, "output_ids": ids, "meta_info": meta | {"id": job.id}}

    def _stream(self, batch: "_Batch") -> Iterator[Answer]:
        arrived: SimpleQueue[_Event] = SimpleQueue()
        growing = _Growing(self, batch, arrived.put)
        try:
            while growing.left:
                yield growing.answer(arrived.get())
        finally:
            growing.close()

    async def _async_stream(self, batch: "_Batch") -> AsyncIterator[Answer]:
        arrived: asyncio.Queue[_Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(event: _Event) -> None:
            with suppress(RuntimeError):  # the loop is gone
                loop.call_soon_threadsafe(arrived.put_nowait, event)

        growing = _Growing(self, batch, put)
        try:
            while growing.left:
                yield growing.answer(await arrived.get())
        finally:
            growing.close()

    # -- the house

    def flush_cache(self) -> bool:
        return self.endpoint.flush_cache()

    def get_server_info(self) -> dict[str, Any]:
        return {**self.server_args.to_dict(), **self.endpoint.get_server_info()}

    def get_model_info(self) -> dict[str, Any]:
        return {"model_path": self.server_args.model_path, "is_generation": True}

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError("this engine makes no embeddings")

    async_encode = rerank = encode

    def shutdown(self) -> None:
        """Take no more work; what is under way fails. Twice is fine."""
        self.endpoint.shutdown()
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()


@dataclass(eq=False)
class _Job:
    """One prompt on its way."""

    index: int
    tokens: list[int]
    request: Request
    number: int

    def __post_init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.opened: list[EngineSequence] = []


@dataclass(frozen=True)
class _Batch:
    jobs: list[_Job]
    several: bool  # the caller gave a list

    def shaped(self, answers: list[list[Answer]]) -> Answer | list[Answer]:
        flat = [answer for of_one in answers for answer in of_one]
        return flat if self.several or len(flat) > 1 else flat[0]


@dataclass(frozen=True, slots=True)
class _Event:
    """Text that a job wrote, or None at its end."""

    job: int
    text: str | None


class _Growing:
    """The answers of a stream: the text of each is all of it so far."""

    def __init__(self, engine: Engine, batch: _Batch, put: Callable[[_Event], None]) -> None:
        if any(job.request.n > 1 for job in batch.jobs):
            raise UnsupportedError("a stream of several samples is not supported: n is over 1")
        self._engine = engine
        self._batch = batch
        self._texts = [""] * len(batch.jobs)
        self.left = len(batch.jobs)
        self._futures: list[Future[Tasks]] = []
        for job in batch.jobs:
            future = engine._begin(job, lambda text, at=job.index: put(_Event(at, text)))
            future.add_done_callback(lambda _, at=job.index: put(_Event(at, None)))
            self._futures.append(future)

    def answer(self, event: _Event) -> Answer:
        """The answer that grew."""
        index, job = event.job, self._batch.jobs[event.job]
        mark = {"index": index} if self._batch.several else {}
        if event.text is None:
            self.left -= 1
            return self._engine._end(job, self._futures[index])[0] | mark
        self._texts[index] += event.text
        meta = {"id": job.id, "finish_reason": None}
        return {"text": self._texts[index], "meta_info": meta} | mark

    def close(self) -> None:
        """Nobody reads on."""
        for job, future in zip(self._batch.jobs, self._futures, strict=True):
            if not future.done():
                self._engine._close(job)


def _is_batch(ids: Sequence[Any] | None) -> bool:
    return ids is not None and len(ids) > 0 and not isinstance(ids[0], int)

"""The engine core under random load: arrivals, forks, aborts, faults and pools of every size.

One seed decides everything, so a failure is found again by its seed. After each step the books are
audited and the laws of scheduling are checked; at the end every text is held against the toy model
without a cache, and every block must be back. Free blocks are filled with rubbish before each step.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence as Tokens
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from ramet.params import SamplingParams
from ramet.runtime.batch import Batch
from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import (
    Aborted,
    CapacityError,
    ContextLengthError,
    EngineError,
    GenerationError,
    SamplingError,
    StepError,
)
from ramet.runtime.sampling import Draw
from ramet.runtime.sampling.processors import Rows
from ramet.runtime.sequence import Generation, Scoring, Sequence, Task
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import TOY_EOS, ToyModel, all_back, toy_logits, toy_text

CONTEXT = 72
MOST = 16  # tasks at once


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors are tiny here: a second thread would only be waited for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass
class Job:
    """What was asked, so that the outcome can be worked out without an engine."""

    task: Task
    prompt: list[int]
    limit: int = 0
    may_fail: type[EngineError] | None = None  # the fault that was injected
    aborted: bool = False
    told: int = 0


class Simulation:
    """Random work on one core. `trace` digests every decision and every token."""

    def __init__(self, seed: int, tokenizer: Tokenizer) -> None:
        self.rng = random.Random(seed)
        pick = self.rng.choice
        size = pick([1, 2, 3, 4, 8, 16])
        largest = -(-CONTEXT // size) + 1  # blocks of the largest request
        self.config = EngineConfig(
            block_size=size,
            num_blocks=max(3, int(largest * pick([0.7, 1, 1, 1.2, 1.5, 3]))),
            step_tokens=pick([1, 6, 20, 64, 256]),
            prefill_chunk=pick([None, None, 1, 3, 7, 16]),
            max_sequences=pick([1, 4, 16, 16, 16]),
            sharing=pick([True, True, True, False]),
        )
        self.core = EngineCore(ToyModel(CONTEXT), tokenizer, self.config)
        self.jobs: dict[Task, Job] = {}
        self.live: dict[Task, Job] = {}  # not told yet
        self.sequences: list[Sequence] = []
        self.refused = Counter[str]()
        self.interrupts = 0  # steps that were run again
        self.trace = hashlib.sha256()
        self.faults = pick([0.0, 0.0, 0.05])
        self.pressure = pick([0.2, 0.5, 0.9])
        self.stems = [self._tokens(self.rng.randrange(1, 40)) for _ in range(3)]
        self._run = self.core.runner.run
        self.core.runner.run = self._faulty_run
        self._sample = self.core._outputs._sampler.sample
        self.core._outputs._sampler.sample = self._faulty_sample
        self._make_room = self.core.scheduler._make_room
        self.core.scheduler._make_room = self._watched_room
        self._batch: Batch | None = None

    # -- the load

    def run(self, steps: int) -> str:
        for _ in range(steps):
            if self.rng.random() < self.pressure:
                self._act()
            self._step()
        self._drain()
        return self.trace.hexdigest()

    def _act(self) -> None:
        actions: list[tuple[Callable[[], None], int]] = [
            (self._arrive, 8),
            (self._go_on, 4),
            (self._fork, 3),
            (self._abort, 1),
            (self._close, 2),
        ]
        kinds, weights = zip(*actions, strict=True)
        self.rng.choices(kinds, weights)[0]()

    def _tokens(self, count: int) -> list[int]:
        return [self.rng.randrange(256) for _ in range(count)]

    def _arrive(self) -> None:
        """Several at once go on from one stem, at different places."""
        for _ in range(self.rng.choice([1, 1, 2, 5])):
            stem = self.rng.choice(self.stems)
            stem = stem[: self.rng.choice([len(stem), self.rng.randrange(len(stem) + 1)])]
            tail = self._tokens(self.rng.randrange(12) if self.rng.random() < 0.97 else CONTEXT)
            self._submit(self._opened(stem + tail or [0]))

    def _opened(self, tokens: list[int]) -> Sequence:
        sequence = self.core.open(tokens, self.rng.choice([b"", b"", b"other"]))
        self.sequences.append(sequence)
        return sequence

    def _idle(self) -> Sequence | None:
        idle = [s for s in self.sequences if s.idle and not s.closed]
        return self.rng.choice(idle) if idle else None

    def _go_on(self) -> None:
        if sequence := self._idle():
            sequence.tokens += self._tokens(self.rng.randrange(4))
            self._submit(sequence)

    def _fork(self) -> None:
        if sequence := self._idle():
            for _ in range(self.rng.randrange(1, 5)):
                child = self.core.fork(sequence)
                self.sequences.append(child)
                child.tokens += self._tokens(self.rng.randrange(3))
                self._submit(child)

    def _abort(self) -> None:
        if live := [job for task, job in self.live.items() if not task.done]:
            job = self.rng.choice(live)
            job.aborted = True
            self.core.abort(job.task)

    def _close(self) -> None:
        if self.sequences:
            sequence = self.rng.choice(self.sequences)
            if sequence.task is not None:
                self.jobs[sequence.task].aborted = True
            self.core.close(sequence)
            self.sequences.remove(sequence)

    def _submit(self, sequence: Sequence) -> None:
        if len(self.live) >= MOST:
            return
        prompt = list(sequence.tokens)
        try:
            task = self._ask(sequence)
        except (CapacityError, ContextLengthError) as error:
            self.refused[type(error).__name__] += 1
            assert sequence.idle
            return
        limit = task.limit if isinstance(task, Generation) else 0
        self.jobs[task] = self.live[task] = Job(task, prompt, limit)

    def _ask(self, sequence: Sequence) -> Task:
        if self.rng.random() < 0.2:
            start = self.rng.randrange(1, len(sequence.tokens) + 1)
            return self.core.score(sequence, start, on_done=self._told)
        params = SamplingParams(
            max_tokens=self.rng.choice([1, 2, 5, 12, 30]), ignore_eos=self.rng.random() < 0.7
        )
        on_text = partial(self._text, sequence) if self.rng.random() < 0.2 else None
        return self.core.generate(sequence, params, key=0, on_done=self._told, on_text=on_text)

    def _text(self, sequence: Sequence, text: str) -> None:
        """A callback that now and then does what it likes."""
        assert sequence.task is not None, "text after the end"
        match self.rng.choice(["", "", "", "abort", "close", "fail", "arrive", "interrupt"]):
            case "abort":
                self._abort()
            case "close":
                self._close()
            case "arrive":
                self._arrive()
            case "fail":
                self.jobs[sequence.task].may_fail = GenerationError
                raise ValueError("a callback failed")
            case "interrupt":
                self.jobs[sequence.task].aborted = True
                raise KeyboardInterrupt
            case _:
                pass

    def _told(self, task: Task) -> None:
        self.jobs[task].told += 1
        self.live.pop(task, None)
        self._note("told", task.id, task.error)
        if self.rng.random() < 0.1:
            self._act()

    # -- one step

    def _step(self) -> None:
        core = self.core
        self._poison()
        before = self._progress()
        decoding = [t for t in core.scheduler.running if t.end - t.cursor == 1]
        busy, self._batch = core.busy, None
        waits = bool(core.scheduler.running or core.scheduler.waiting)
        try:
            core.step()
        except KeyboardInterrupt:
            self.interrupts += 1
            waits = False
        core.audit()
        assert not waits or before != self._progress(), "nobody moved"
        assert busy or self._batch is None
        if self._batch is not None:
            self._check(self._batch, decoding)

    def _progress(self) -> tuple[int, int]:
        """Tokens that were computed, tasks that came to their end."""
        return self.core.stats().tokens, len(self.jobs) - len(self.live)

    def _check(self, batch: Batch, decoding: list[Task]) -> None:
        config = self.config
        assert batch.tokens <= config.step_tokens
        assert len(batch.entries) <= config.max_sequences
        assert len(self.core.scheduler.running) <= config.max_sequences
        assert len({entry.task for entry in batch.entries}) == len(batch.entries)
        chunk = config.prefill_chunk or config.step_tokens
        assert all(entry.count <= chunk for entry in batch.entries)
        left_out = set(decoding) - {entry.task for entry in batch.entries}
        waiting = self.core.scheduler.waiting  # a decoding task may have lost its blocks
        starved = [t for t in left_out if t not in waiting and not t.done]
        assert not starved or len(decoding) > config.step_tokens, "a prefill starves a decode"

    def _poison(self) -> None:
        size = self.config.block_size
        data = self.core.runner.backend.cache.data
        if self.core.pool.free:
            slots = torch.tensor(self.core.pool.free)[:, None] * size + torch.arange(size)
            data[:, :, :, slots.flatten()] = 77.0

    def _faulty_run(self, batch: Batch) -> Tensor:
        self._batch = batch
        for entry in batch.entries:
            self._note(entry.task.id, entry.start, entry.count, entry.copies)
        before, after, row = (self.rng.random() < self.faults for _ in range(3))
        if before or after:
            for entry in batch.entries:
                self.jobs[entry.task].may_fail = StepError
        if before:
            raise MemoryError("no room for activations")
        logits = self._run(batch)
        if after:
            raise RuntimeError("a kernel failed after it had written")
        if self.rng.random() < self.faults:
            raise KeyboardInterrupt
        owners = [entry.task for entry in batch.entries for _ in range(entry.outputs)]
        if row and owners:
            at = self.rng.randrange(len(owners))
            logits[at] = float("nan")
            self.jobs[owners[at]].may_fail = SamplingError
        return logits

    def _faulty_sample(self, logits: Tensor, rows: Rows, positions: Tokens[int]) -> list[Draw]:
        if self.rng.random() < self.faults:
            raise KeyboardInterrupt
        if self.rng.random() < self.faults:
            for job in self.live.values():
                if isinstance(job.task, Generation) and job.task.row in rows:
                    job.may_fail = GenerationError
            raise MemoryError("no room for probabilities")
        return self._sample(logits, rows, positions)

    def _watched_room(self, task: Task) -> bool:
        """The latest arrival gives way, where scopes compete that of one over its share; nobody
        for one of its scope that came later, the first one never."""
        running = list(self.core.scheduler.running)
        yielded = self.core.scheduler.yielded
        room = self._make_room(task)
        lost = [each for each in running if each not in self.core.scheduler.running]
        for victim in lost:
            scope = victim.sequence.table.scope
            among = [each for each in running if each.sequence.table.scope == scope]
            if self.core.scheduler.yielded == yielded:
                among = [*running, task]
            assert victim.id == max(each.id for each in among)
            assert victim is not min(running, key=lambda each: each.id), "the first one gave way"
            self._note("preempted", victim.id)
        return room

    def _note(self, *what: object) -> None:
        self.trace.update(repr(what).encode())

    # -- the end

    def _drain(self) -> None:
        self.faults = 0.0
        tokens = sum(len(job.prompt) + job.limit for job in self.jobs.values())
        for _ in range(5 * tokens + 100):
            if not self.core.busy:
                break
            self._step()
        assert not self.core.busy, f"livelock: {self.core.stats()}"
        for sequence in list(self.core._sequences):
            self.core.close(sequence)
        self._step()
        assert all_back(self.core)
        for job in self.jobs.values():
            self._judge(job)

    def _judge(self, job: Job) -> None:
        task = job.task
        assert task.done
        assert job.told == 1, f"told {job.told} times"
        if task.error is not None:
            allowed = Aborted if job.aborted else job.may_fail
            assert allowed is not None, task.error
            assert isinstance(task.error, allowed)
        usage = task.usage
        if isinstance(task, Generation):
            wanted = toy_text(job.prompt, len(task.drawn))
            assert task.drawn == wanted
            ended = TOY_EOS in wanted and not task.row.params.ignore_eos
            if task.error is None:
                assert task.finish_reason == ("eos" if ended else "length")
                assert ended or len(task.drawn) == job.limit
                known = usage.prompt_computed + usage.prompt_reused
                assert known >= len(job.prompt) >= usage.prompt_reused
                assert known == len(job.prompt) or usage.preemptions or self.interrupts
        elif isinstance(task, Scoring) and task.error is None:
            assert task.logprobs == pytest.approx(scores(job.prompt, task.start))
        self._note(task.id, getattr(task, "drawn", None), usage)


def scores(tokens: list[int], start: int) -> list[float]:
    pairs = [(token, place) for place, token in enumerate(tokens)]
    if start == len(tokens):
        return []
    logits = np.stack([toy_logits(pairs[:at]).numpy() for at in range(start, len(tokens))])
    sums = np.log(np.exp(logits).sum(-1))
    return [
        float(row[token] - sum)
        for row, sum, token in zip(logits, sums, tokens[start:], strict=True)
    ]


def simulate(seed: int, steps: int, tokenizer: Tokenizer) -> Simulation:
    simulation = Simulation(seed, tokenizer)
    try:
        simulation.run(steps)
    except Exception as error:
        error.add_note(f"seed {seed}: {simulation.config}")
        raise
    return simulation


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_load(byte_tokenizer: Tokenizer, first: int) -> None:
    for seed in range(first, first + 20):
        simulate(seed, 100, byte_tokenizer)


def test_the_load_is_varied(byte_tokenizer: Tokenizer) -> None:
    """The runs above would show nothing if they never came to what they are about."""
    done = [simulate(seed, 100, byte_tokenizer) for seed in range(20)]
    jobs = [job for simulation in done for job in simulation.jobs.values()]
    errors = Counter(type(job.task.error) for job in jobs)
    assert errors.keys() >= {type(None), Aborted, StepError, SamplingError, GenerationError}
    assert errors[type(None)] > len(jobs) / 2
    assert sum(job.task.usage.preemptions for job in jobs) > 20
    assert sum(job.task.usage.prompt_reused for job in jobs) > 1_000
    assert sum(job.task.usage.copied_blocks for job in jobs) > 20
    assert {"CapacityError", "ContextLengthError"} <= {
        name for simulation in done for name in simulation.refused
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_makes_the_same_decisions(byte_tokenizer: Tokenizer, seed: int) -> None:
    traces = {simulate(seed, 100, byte_tokenizer).trace.hexdigest() for _ in range(3)}
    assert len(traces) == 1


@pytest.mark.slow
@pytest.mark.parametrize("first", range(200, 20_200, 200))
def test_random_load_at_length(byte_tokenizer: Tokenizer, first: int) -> None:
    for seed in range(first, first + 200):
        simulate(seed, 300, byte_tokenizer)

"""Decode steps as CUDA graphs: one launch in place of hundreds.

A step in which each of n sequences brings one token runs in the graph of its *bucket*: n rounded
up. A graph reads and writes fixed memory, so a step is written into the buffers that the graph was
captured with, its metadata by `GpuBackend.refill`. The rows that a step leaves free are tokens of
nobody: they write no keys and values (slot −1), read none, and their logits are dropped.

Knows nothing of sequences and requests.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ramet.kernels import Step
from ramet.kernels.gpu.backend import GpuBackend
from ramet.kernels.gpu.plan import DoesNotFit, Plan
from ramet.runtime.inputs import Inputs, staged
from ramet.runtime.models import Model, PagedAttention

_FEWEST_BLOCKS = 64  # of a block table: shorter ones do not get graphs of their own


class Graph(Protocol):
    """Work that was captured."""

    def replay(self) -> None:
        """Do it again, over the same memory."""
        ...


Capture = Callable[[Callable[[], None]], Graph]


@dataclass(frozen=True, slots=True)
class _Captured:
    """A graph with the memory that a step is written into.

    A graph knows addresses, and keeps nothing alive: what it reads and writes is kept here, by the
    function that was captured.
    """

    graph: Graph
    forward: Callable[[], None]
    inputs: Tensor  # [2, bucket] int64: tokens and positions
    plan: Plan


class DecodeGraphs:
    """The graphs of one model over one cache, captured when a step first needs them."""

    def __init__(
        self, model: Model, backend: GpuBackend, most: int, capture: Capture | None = None
    ) -> None:
        """
        Args:
            most: sequences of a step; larger steps have no graph.
            capture: runs a function to warm up, then captures what it does; None: `CudaCapture`.
        """
        self._model = model
        self._backend = backend
        self._most = most
        self._capture = CudaCapture(backend.cache.layout.device) if capture is None else capture
        self._graphs: dict[tuple[int, int], _Captured] = {}  # by bucket and width of block tables
        self._logits: Tensor | None = None  # [bucket of `most`, vocab], what every graph writes to
        self._failed = False

    def run(self, inputs: Inputs, step: Step) -> Tensor | None:
        """Logits `[R, vocab]` float32, until the next step; None: run this step without a graph."""
        if self._failed or not self._decodes(inputs, step):
            return None
        captured = self._captured(inputs, step)
        if captured is None:
            return None
        captured.graph.replay()
        assert self._logits is not None, "a graph that was captured has somewhere to write to"
        return self._logits[: step.tokens]

    def _decodes(self, inputs: Inputs, step: Step) -> bool:
        """Whether every sequence brings one token and wants its logits."""
        sequences = len(step.contexts)
        alike = sequences == step.tokens == len(inputs.rows)
        return alike and sequences <= self._most and not step.trees

    def _captured(self, inputs: Inputs, step: Step) -> _Captured | None:
        """The graph for a step, with the step written into it; None where it does not fit."""
        key = bucket(step.tokens), _wide(step.block_tables.shape[1])
        found = self._graphs.get(key)
        try:
            if found is not None:
                self._backend.refill(found.plan, step)
                _fill(found.inputs, inputs)
                return found
            room = self._backend.room_for_decoding(*key)
            plan = self._backend.plan(step, room)
        except DoesNotFit:  # its forest is deeper than the room of a plan
            return None
        if not plan.readers:  # no step has run yet, so nobody knows what the layers will ask for
            return None
        return self._record(key, plan, inputs)

    def _record(self, key: tuple[int, int], plan: Plan, inputs: Inputs) -> _Captured | None:
        size, device = key[0], self._backend.cache.layout.device
        static = torch.zeros(2, size, dtype=torch.int64, device=device)
        rows = torch.arange(size, device=device)
        _fill(static, inputs)
        logits = self._written(size)
        attention = PagedAttention(self._backend, plan)

        def forward() -> None:
            logits.copy_(self._model.forward(static[0], static[1], attention, rows))

        try:
            graph = self._capture(forward)
        except RuntimeError as error:
            self._failed = True
            warnings.warn(f"decode steps run without CUDA graphs: {error}", stacklevel=2)
            return None
        if plan.cuts.keys() != set(plan.readers):  # a layer read as no step before had told
            return None
        self._graphs[key] = _Captured(graph, forward, static, plan)
        return self._graphs[key]

    def _written(self, size: int) -> Tensor:
        if self._logits is None:
            self._logits = torch.zeros(
                bucket(self._most),
                self._model.shape.vocab,
                device=self._backend.cache.layout.device,
            )
        return self._logits[:size]


class CudaCapture:
    """Captures on one stream into one pool of memory: graphs run one after the other."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], None]) -> Graph:
        """Run once, which compiles kernels and settles libraries, then capture.

        Raises:
            RuntimeError: it cannot be captured; the thread's stream is what it was.
        """
        stream, before = self._stream, torch.cuda.current_stream(self._stream.device)
        graph = torch.cuda.CUDAGraph()
        try:
            stream.wait_stream(before)
            with torch.cuda.stream(stream):
                run()
            before.wait_stream(stream)
            with torch.cuda.graph(
                graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
            ):
                run()
        finally:  # a capture that fails leaves the thread on its own stream
            torch.cuda.set_stream(before)
        return graph


def bucket(sequences: int) -> int:
    """1, 2, 4 or 8; above, a multiple of 8."""
    return 1 << (sequences - 1).bit_length() if sequences <= 8 else -(-sequences // 8) * 8


def _wide(blocks: int) -> int:
    """A power of two, so that a text that grows comes to few new graphs."""
    return max(_FEWEST_BLOCKS, 1 << (blocks - 1).bit_length())


def _fill(static: Tensor, inputs: Inputs) -> None:
    """Tokens and positions; those of nobody are 0."""
    spare = np.zeros(static.shape[1] - len(inputs.tokens), np.int64)
    packed = staged([inputs.tokens, spare, inputs.positions, spare], static.device)
    static.copy_(packed.view(static.shape), non_blocking=True)

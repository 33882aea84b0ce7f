"""Decode steps in graphs: what is written into them, and when there is none.

A CPU has no graphs. One that is "captured" here runs the same function over the same memory again.
The kernels are interpreted where there is no GPU.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from ramet.kernels.gpu.backend import GpuBackend
from ramet.kernels.gpu.runs import Tuning
from ramet.runtime import runner
from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.graphs import CudaCapture, DecodeGraphs, Graph, bucket
from ramet.runtime.models import Model, load_model
from ramet.runtime.tokenizer import Tokenizer
from tests.kernels.gpu.interpreter import mend
from tests.runtime.greedy import drain, submit
from tests.runtime.models.tiny import SHAPE, save, saved

mend()

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [[7, 8, 9, 10, 11, 12], [50], [7, 8, 9, 10, 11, 13]]


class Again:
    """In place of a graph, which keeps nothing alive of what it reads: nor does this."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = weakref.ref(run)
        self.replays = 0

    def replay(self) -> None:
        run = self._run()
        assert run is not None, "what was captured reads memory that is gone"
        self.replays += 1
        run()


class Captures:
    """In place of capturing."""

    def __init__(self) -> None:
        self.made: list[Again] = []

    def __call__(self, run: Callable[[], None]) -> Graph:
        run()
        self.made.append(Again(run))
        return self.made[-1]


def loaded(folder: Path) -> Model:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_model(str(folder), dtype="float32", cache=folder, device=device)[0]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """One layer: interpreted kernels take their time."""
    save(LlamaConfig(**{**SHAPE, "num_hidden_layers": 1}), tmp_path)
    return loaded(tmp_path)


@pytest.fixture
def core(
    model: Model, byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], EngineCore]:
    """Engines on the kernels of a GPU, interpreted."""
    shares = Tuning(min_saved=1, partial_cost=0)
    monkeypatch.setattr(runner, "backend_for", lambda cache, *_: GpuBackend(cache, shares))
    config = EngineConfig(num_blocks=24, block_size=4)
    return lambda: EngineCore(model, byte_tokenizer, config)


def graphs(core: EngineCore, capture: Callable[[Callable[[], None]], Graph], most: int) -> None:
    backend = core.runner.backend
    assert isinstance(backend, GpuBackend)
    core.runner.replay = DecodeGraphs(core.model, backend, most, capture).run


def texts(core: EngineCore, prompts: list[list[int]], counts: list[int]) -> list[list[int]]:
    """Prompts at once, with texts of these lengths, so that fewer and fewer are left."""
    return drain(
        core,
        [submit(core, core.open(p), n) for p, n in zip(prompts, counts, strict=True)],
    )


def test_buckets() -> None:
    assert [bucket(n) for n in (1, 2, 3, 4, 5, 8, 9, 16, 17, 64, 250, 256)] == [
        *(1, 2, 4, 4, 8, 8, 16, 16, 24, 64, 256, 256)
    ]


def test_texts_and_caches_are_those_without_graphs(core: Callable[[], EngineCore]) -> None:
    plain, graphed, captures = core(), core(), Captures()
    graphs(graphed, captures, most=4)
    counts = [6, 2, 4]
    assert texts(graphed, PROMPTS, counts) == texts(plain, PROMPTS, counts)
    assert torch.equal(graphed.runner.backend.cache.data, plain.runner.backend.cache.data)
    # The last prompt finds all but one token when the first is done. So 3, 2, 2, 2 and 1 sequences
    # have one token each: graphs of buckets 4, 2 and 1.
    assert [graph.replays for graph in captures.made] == [1, 3, 1]


def test_what_is_no_decode_step_runs_without(core: Callable[[], EngineCore]) -> None:
    one, captures = core(), Captures()
    graphs(one, captures, most=2)
    expected = texts(core(), PROMPTS, [4, 2, 2])
    assert texts(one, PROMPTS, [4, 2, 2]) == expected
    assert [graph.replays for graph in captures.made] == [1, 1], "not of the step with all three"


def test_a_graph_that_cannot_be_captured_is_told_of_once(core: Callable[[], EngineCore]) -> None:
    asked: list[object] = []

    def fails(run: Callable[[], None]) -> Graph:
        asked.append(run)
        raise RuntimeError("operation not permitted when stream is capturing")

    one, expected = core(), texts(core(), PROMPTS[:2], [3, 3])
    graphs(one, fails, most=8)
    with pytest.warns(UserWarning, match=r"without CUDA graphs: operation not permitted"):
        assert texts(one, PROMPTS[:2], [3, 3]) == expected
    assert len(asked) == 1


def test_the_first_step_of_all_has_no_graph(core: Callable[[], EngineCore]) -> None:
    """Nobody knows yet how its layers read."""
    one, captures = core(), Captures()
    graphs(one, captures, most=4)
    assert texts(one, [[50]], [3]) == texts(core(), [[50]], [3])
    assert [graph.replays for graph in captures.made] == [2]


@pytest.mark.usefixtures("core")
def test_a_graph_that_some_layers_were_not_planned_for_is_dropped(
    byte_tokenizer: Tokenizer,
) -> None:
    """A first step that failed between its layers leaves a backend that knows some of them."""
    windows = loaded(saved("qwen2-windows"))  # of some layers
    config = EngineConfig(num_blocks=24, block_size=4)
    one, captures = EngineCore(windows, byte_tokenizer, config), Captures()
    graphs(one, captures, most=4)
    expected = texts(EngineCore(windows, byte_tokenizer, config), [[50]], [4])
    backend = one.runner.backend
    assert isinstance(backend, GpuBackend)
    assert texts(one, [[50]], [2]) == [expected[0][:2]]
    backend._readers.popitem()
    graphs(one, captures, most=4)
    one.pool.clear()
    assert texts(one, [[50]], [4]) == expected
    assert [graph.replays for graph in captures.made] == [1, 0, 3]


class Stream:
    """Knows who waited for whom."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self.awaited: list[Stream] = []

    def wait_stream(self, other: "Stream") -> None:
        self.awaited.append(other)


class FakeCuda:
    """The calls and their order, with nothing behind them; `test_gpu.py` captures in earnest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.main = Stream()
        self.captured: list[dict[str, object]] = []
        for name, fake in {
            "graph_pool_handle": lambda: (0, 1),
            "Stream": Stream,
            "current_stream": lambda device: self.now,
            "set_stream": self._set,
            "stream": self._aside,
            "CUDAGraph": object,
            "graph": self._graph,
        }.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    def _set(self, stream: Stream) -> None:
        self.now = stream

    @contextmanager
    def _aside(self, stream: Stream) -> Iterator[None]:
        before, self.now = self.now, stream
        yield
        self.now = before

    @contextmanager
    def _graph(self, graph: object, **how: object) -> Iterator[None]:
        """Leaves the stream as torch does: where it fails, as it is."""
        before = self.now
        assert isinstance(how["stream"], Stream)
        self.now = how["stream"]
        self.captured.append(how)
        yield
        self.now = before


def test_all_is_captured_on_one_stream_where_it_ran_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda(monkeypatch)
    capture, ran = CudaCapture(torch.device("cuda", 1)), list[Stream]()
    for _ in range(2):
        capture(lambda: ran.append(cuda.now))
    stream = ran[0]
    assert ran == [stream] * 4
    assert stream is not cuda.main
    assert stream.device == torch.device("cuda", 1)
    assert stream.awaited == [cuda.main] * 2
    assert cuda.main.awaited == [stream] * 2
    how = {"pool": (0, 1), "stream": stream, "capture_error_mode": "thread_local"}
    assert cuda.captured == [how, how]
    assert cuda.now is cuda.main


@pytest.mark.parametrize("good", [0, 1], ids=["running", "capturing"])
def test_where_a_capture_fails_the_stream_is_what_it_was(
    good: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, runs = FakeCuda(monkeypatch), list[None]()

    def run() -> None:
        if len(runs) == good:
            raise RuntimeError("operation not permitted when stream is capturing")
        runs.append(None)

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaCapture(torch.device("cuda", 0))(run)
    assert cuda.now is cuda.main

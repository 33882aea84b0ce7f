"""A peer's worker process, seen from here: started in its environment, asked by lines of JSON."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from environments import preloaded, python
from workloads import Workload


@dataclass(frozen=True, slots=True)
class Peer:
    name: str  # as in the results
    family: str  # "better of the two" is among these
    environment: str
    worker: str  # its file
    arguments: tuple[str, ...] = ()
    gguf: bool = False  # wants the file as it is, instead of the converted directory


PEERS = (
    Peer("transformers float32", "transformers", "transformers", "transformers", ("float32",)),
    Peer("continuous batching", "continuous", "transformers", "continuous", ("float32",)),
    Peer("llama.cpp Q4_1", "llama.cpp", "llama.cpp", "llama_cpp", gguf=True),
    Peer("vllm bfloat16", "vllm", "vllm", "vllm", ("bfloat16",)),
    Peer("vllm float32", "vllm", "vllm", "vllm", ("float32",)),
)


@dataclass(frozen=True, slots=True)
class Answer:
    seconds: float
    drawn: list[list[int]]  # tokens of each request; of a select, the number of the option


class NotMeasured(Exception):
    """The peer does not offer it, or ended; the message says which."""


class Worker:
    """The process, from `with` to its end; `versions` of what it runs on."""

    versions: Mapping[str, str]

    def __init__(self, peer: Peer, folder: Path, directory: Path, gguf: Path, threads: int) -> None:
        self._log = python(folder, peer.environment).parents[1] / "worker.log"
        with self._log.open("w") as log:
            self._process = self._start(
                peer, folder, gguf if peer.gguf else directory, threads, log
            )

    @staticmethod
    def _start(
        peer: Peer, folder: Path, model: Path, threads: int, log: TextIO
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [
                python(folder, peer.environment),
                Path(__file__).with_name(f"{peer.worker}_worker.py"),
                model,
                *peer.arguments,
                str(threads),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | _environ(peer, folder, threads),
        )

    def __enter__(self) -> Self:
        self.versions = self._answer()["versions"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """It ends by itself when nobody asks any more, and takes its own children along."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def run(self, work: Workload) -> Answer:
        """Raises `NotMeasured`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(work.plain()) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        answer = self._answer()
        if "missing" in answer:
            raise NotMeasured(answer["missing"])
        return Answer(answer["seconds"], answer["drawn"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        return json.loads(line)

    def _ended(self) -> NotMeasured:
        return NotMeasured(f"the worker ended with status {self._process.wait()}: {self._log}")


def _environ(peer: Peer, folder: Path, threads: int) -> dict[str, str]:
    found = {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if peer.family == "vllm":
        found |= {
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
            "VLLM_CPU_KVCACHE_SPACE": "4",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
            "LD_PRELOAD": ":".join(map(str, preloaded(folder))),
        }
    return found

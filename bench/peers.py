"""One stream against llama.cpp on the same GGUF file, in turns.

    python bench/peers.py [--json bench/results/peers.json] [--environments DIR]

llama.cpp (through `llama-cpp-python`) runs the file as it is, in Q4_1, in an environment of its own
that is made the first time, which compiles it for this machine and takes minutes; ramet runs the
same weights in float32 and in int8. Each draws the same number of tokens greedily behind the same
prompt, in a process that lives on; the medians of alternating runs are compared.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from machine import median, seconds, write
from rich.console import Console

from ramet.params import SamplingParams
from ramet.runtime import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.embedded import embedded_file
from ramet.runtime.models import Model, load_model
from ramet.runtime.tokenizer import Piece, Tokenizer

LLAMA_CPP = "llama-cpp-python==0.3.36"
PROMPT = "Write about the rivers of the world, one after the other, and what lives in them: "
TOKENS, TURNS, TARGET = 128, 7, 1.0


class LlamaCpp:
    """A worker process in an environment of its own."""

    def __init__(self, environments: Path) -> None:
        python = environments / "llama-cpp" / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
            native = os.environ | {"CMAKE_ARGS": "-DGGML_NATIVE=ON"}
            subprocess.run(
                [python, "-m", "pip", "install", "-q", LLAMA_CPP], check=True, env=native
            )
        worker = Path(__file__).parent / "peers" / "llama_cpp_worker.py"
        model, threads = embedded_file("smollm2-135m"), str(torch.get_num_threads())
        self._process = subprocess.Popen(
            [python, worker, model, threads],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, prompt: list[int]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"prompt": prompt, "tokens": TOKENS}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert len(answer["tokens"]) == TOKENS
        return answer


def ours(model: Model, tokenizer: Tokenizer, prompt: list[int]) -> None:
    """A fresh engine core: nothing is cached from before."""
    core = EngineCore(model, tokenizer, EngineConfig(num_blocks=64))
    params = SamplingParams(max_tokens=TOKENS, ignore_eos=True)
    task = core.generate(core.open(prompt), params, key=0, on_done=lambda task: None)
    while core.busy:
        core.step()
    assert len(task.drawn) == TOKENS


def main() -> None:
    parser = argparse.ArgumentParser(description="ramet against llama.cpp")
    parser.add_argument("--json", type=Path, default=Path("bench/results/peers.json"))
    parser.add_argument("--environments", type=Path, default=Path("~/.cache/ramet/peers"))
    options = parser.parse_args()

    cache = EngineConfig().models
    models = {
        name: load_model("smollm2-135m", dtype=name, cache=cache) for name in ("float32", "int8")
    }
    tokenizer = Tokenizer.load(models["int8"][1])
    prompt = tokenizer.encode([Piece(PROMPT)], start=True)
    times: dict[str, list[float]] = {name: [] for name in (*models, "llama.cpp")}
    with LlamaCpp(options.environments.expanduser()) as peer:
        for _ in range(TURNS + 1):
            for name, (model, _) in models.items():
                times[name] += seconds(lambda model=model: ours(model, tokenizer, prompt), 1)
            times["llama.cpp"].append(peer.run(prompt)["seconds"])
    rates = {name: round(TOKENS / median(each[1:]), 1) for name, each in times.items()}
    row: dict[str, object] = {
        "workload": f"one stream: {TOKENS} tokens behind {len(prompt)}",
        "tokens_per_s": rates,
        "int8_to_llama_cpp": round(rates["int8"] / rates["llama.cpp"], 2),
        "target": TARGET,
        "llama_cpp": LLAMA_CPP,
        "seconds": {name: [round(t, 3) for t in each[1:]] for name, each in times.items()},
    }
    Console().print(
        f"[bold]{row['workload']}[/]: int8 {rates['int8']} tokens/s, float32 {rates['float32']}, "
        f"llama.cpp in Q4_1 {rates['llama.cpp']}: [bold]{row['int8_to_llama_cpp']}×[/] "
        f"(target {TARGET}×)",
        highlight=False,
    )
    write(options.json, "peers", [row])


if __name__ == "__main__":
    main()

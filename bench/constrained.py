"""Typed against free text: the same prompts, the same number of tokens, in turns.

    python bench/constrained.py [--json bench/results/constrained.json] [--quick]

16 prompts in one batch on SmolLM2-135M in float32. Every text has exactly the number of tokens
asked for: no free text ends, and no typed one is whole before. `ratio` is the median time per token
within a type over that without one. `first` is the same for the first texts of a grammar, while its
lexer is still being built. `forced` is the share of tokens that the type left no choice for: they
are run, and not drawn; `strayed` the share of those drawn of which the first draw was no token of
the type, so that a second followed. `compile` is the time until a type is ready, once.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import median, seconds, write
from rich.console import Console

from ramet.params import SamplingParams
from ramet.runtime import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.grammar import GrammarCompiler
from ramet.runtime.models import Model, load_model
from ramet.runtime.sampling import SamplingRow
from ramet.runtime.sequence import Generation
from ramet.runtime.tokenizer import Piece, Tokenizer
from ramet.types import Type, json_type

PEOPLE: dict[str, Any] = {
    "type": "array",
    "minItems": 50,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 30},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "likes": {"type": "array", "items": {"enum": ["tea", "chess", "rain"]}, "maxItems": 3},
        },
        "required": ["name", "age", "likes"],
        "additionalProperties": False,
    },
}
TOPICS = "tea rain chess bread rivers clocks maps ferns owls glass salt wool kites ink drums bees"
TARGET = 1.15


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    type: Type
    temperature: float = 0.0


WORKLOADS = [
    Workload("a JSON list of objects", json_type(PEOPLE)),
    Workload("words, by a pattern", Type("regex", r"([A-Za-z]{1,12}[,.]? ){200,}")),
    Workload("words, drawn at temperature 0.8", Type("regex", r"(\w+[,.]? ){200,}"), 0.8),
    Workload("any JSON in a list", json_type({"type": "array", "minItems": 200}), 0.8),
]


@contextmanager
def strays() -> Iterator[list[bool]]:
    """Of every draw meanwhile, whether it strayed."""
    found: list[bool] = []
    judge = SamplingRow.strays

    def noted(self: SamplingRow, token: int) -> bool:
        found.append(judge(self, token))
        return found[-1]

    SamplingRow.strays = noted
    try:
        yield found
    finally:
        SamplingRow.strays = judge


class Bench:
    """Runs the 16 prompts, each time through a fresh engine core; grammars are kept."""

    def __init__(self, model: Model, tokenizer: Tokenizer, tokens: int) -> None:
        self.grammars: GrammarCompiler | None = None
        self._model, self._tokenizer, self._tokens = model, tokenizer, tokens
        self._prompts = [
            tokenizer.encode([Piece(f"A few words about {topic} and who likes it: ")], start=True)
            for topic in TOPICS.split()
        ]

    def run(self, work: Workload, typed: bool) -> list[Generation]:
        core = EngineCore(self._model, self._tokenizer, EngineConfig(num_blocks=160))
        grammars = self.grammars = self.grammars or core.grammars
        params = SamplingParams(
            max_tokens=self._tokens, temperature=work.temperature, ignore_eos=True
        )
        tasks = [
            core.generate(
                core.open(prompt),
                params,
                key=key,
                on_done=lambda task: None,
                grammar=grammars.start(work.type) if typed else None,
            )
            for key, prompt in enumerate(self._prompts)
        ]
        while core.busy:
            core.step()
        assert all(len(task.drawn) == self._tokens for task in tasks), "texts of other lengths"
        return tasks

    def compiled(self, work: Workload) -> float:
        assert self.grammars is not None, "after a first run"
        return seconds(lambda: self.grammars and self.grammars.start(work.type), 1)[0]

    def compare(self, work: Workload, turns: int) -> dict[str, object]:
        self.run(work, typed=False)
        compiled = self.compiled(work)
        first = seconds(lambda: self.run(work, typed=True), 1)[0]
        free: list[float] = []
        typed: list[float] = []
        for _ in range(turns):
            free += seconds(lambda: self.run(work, typed=False), 1)
            typed += seconds(lambda: self.run(work, typed=True), 1)
        with strays() as strayed:
            tasks = self.run(work, typed=True)
        count = len(tasks) * self._tokens
        forced = sum(task.usage.forced for task in tasks)
        return {
            "workload": work.name,
            "free_ms_per_token": round(1e3 * median(free) / count, 3),
            "typed_ms_per_token": round(1e3 * median(typed) / count, 3),
            "ratio": round(median(typed) / median(free), 3),
            "target": TARGET,
            "first": round(first / median(free), 3),
            "forced": round(forced / count, 3),
            "strayed": round(sum(strayed) / (count - forced), 3),
            "compile_ms": round(1e3 * compiled, 1),
            "seconds_free": [round(t, 3) for t in free],
            "seconds_typed": [round(t, 3) for t in typed],
        }


def line(row: dict[str, object]) -> str:
    return (
        f"[bold]{row['workload']}[/]: {row['typed_ms_per_token']} ms a token, free "
        f"{row['free_ms_per_token']}: [bold]{row['ratio']}×[/] (at most {row['target']}×); "
        f"first {row['first']}×; forced {row['forced']:.0%}; strayed {row['strayed']:.0%} of the "
        f"draws; compiled in {row['compile_ms']} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="typed against free text")
    parser.add_argument("--json", type=Path, default=Path("bench/results/constrained.json"))
    parser.add_argument("--quick", action="store_true", help="16 tokens, one turn, no file")
    options = parser.parse_args()

    model, directory = load_model("smollm2-135m", dtype="float32", cache=EngineConfig().models)
    bench = Bench(model, Tokenizer.load(directory), 16 if options.quick else 48)
    console = Console()
    rows: list[dict[str, object]] = []
    for work in WORKLOADS:
        rows.append(bench.compare(work, 1 if options.quick else 5))
        console.print(line(rows[-1]), highlight=False)
    if not options.quick:
        write(options.json, "constrained", rows)


if __name__ == "__main__":
    main()

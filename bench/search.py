"""Beam search, select and samples against transformers: same model, same process, in turns.

    python bench/search.py [--json bench/results/search.json] [--only NAME] [--quick]

Three workloads on SmolLM2-135M in float32, each in one call of either side:

* beams: 4 prompts, width 8, against `generate(num_beams=8)` on the four as one batch.
* select: 48 questions with 4 options each on a shared context, against a forward pass of its own
  for each option, over context, question and option; logits are made for the option alone. That
  side is measured on some of the 192 options and scaled up, since each takes the same.
* samples: 16 of one prompt, against `generate(num_return_sequences=16)`.

All texts are of full length on both sides, the medians of alternating runs are compared, and every
run of ours begins with an empty cache. On a machine that others use, `--threads 1` keeps threads
from waiting for each other.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from machine import median, seconds, write
from rich.console import Console
from transformers import AutoModelForCausalLM

import ramet
from ramet.runtime import Engine, EngineConfig
from ramet.runtime.models import load_model
from ramet.runtime.result import Finished
from ramet.runtime.tokenizer import Piece, Tokenizer
from ramet.runtime.values import SamplesInfo, SelectInfo

WORDS = (
    "a gardener planted twelve pear trees along the southern wall and wrote down when each of them "
    "came into blossom how many bees she counted and what the weather did in the week before"
).split()
BEAMS, SAMPLES, OPTIONS = 8, 16, 4
SEARCH_TOKENS, SAMPLE_TOKENS = 32, 48
PROMPT, CONTEXT = 330, 940  # tokens, about
QUESTIONS = 48
MEASURED = 8  # options that transformers scores

SEARCH = ramet.loads("""
program search(prompt: str, width: int, tokens: int):
    "{prompt}"
    gen best(beams=width, n=width, max_tokens=tokens, ignore_eos=true)
""")

SAMPLE = ramet.loads("""
program sample(prompt: str, count: int, tokens: int):
    "{prompt}"
    gen texts(n=count, temperature=0.8, max_tokens=tokens, ignore_eos=true)
""")

ASK = ramet.loads("""
program ask(context: str, questions: list):
    "{context}"
    fork each in questions as asked:
        "\\nQuestion: {each.question}\\nAnswer:"
        select answer from each.options
    return asked.answer
""")


@dataclass(frozen=True, slots=True)
class Workload:
    """What both sides do; `equal` compares what they found, after a run of each."""

    name: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    equal: Callable[[], str]
    target: float  # ratio to reach
    turns: int  # measured runs of each side, alternating
    scale: float = 1.0  # of the time that theirs takes
    options: int = 0  # scored by a run


class Bench:
    """The model on both sides, and the workloads."""

    def __init__(self, quick: bool) -> None:
        model, directory = load_model("smollm2-135m", dtype="float32", cache=EngineConfig().models)
        self._tokenizer = Tokenizer.load(directory, eos_ids=model.shape.eos)
        self._engine = Engine.of(model, self._tokenizer, EngineConfig(num_blocks=3000))
        self._hf: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self._hf.eval()
        self._hf.generation_config.eos_token_id = None
        self._hf.generation_config.pad_token_id = 0
        self._turns = 1 if quick else 3
        self._draw = random.Random(0)

    def workloads(self) -> dict[str, Callable[[], Workload]]:
        return {"beams": self._beams, "select": self._select, "samples": self._samples}

    # -- workloads

    def _beams(self) -> Workload:
        prompts = [self._text(PROMPT) for _ in range(4)]
        items = [{"prompt": p, "width": BEAMS, "tokens": SEARCH_TOKENS} for p in prompts]
        mine: list[list[tuple[int, ...]]] = []
        other: list[list[list[int]]] = []

        def ours() -> None:
            done = [_finished(each) for each in self._empty().run_batch(SEARCH, items)]
            found = (each.info("best") for each in done)
            mine[:] = [
                [sample.tokens for sample in info.samples]
                for info in found
                if isinstance(info, SamplesInfo)
            ]

        def theirs() -> None:
            found = self._generate(
                prompts,
                SEARCH_TOKENS,
                do_sample=False,
                num_beams=BEAMS,
                num_return_sequences=BEAMS,
            )
            other[:] = [found[at : at + BEAMS] for at in range(0, len(found), BEAMS)]

        def equal() -> str:
            pairs = zip(chain(*mine), chain(*other), strict=True)
            same = sum(list(one) == list(two) for one, two in pairs)
            return f"{same}/{4 * BEAMS} hypotheses"

        name = (
            f"beam search: 4 prompts of {self._lengths(prompts)} tokens, width {BEAMS}, "
            f"{SEARCH_TOKENS} tokens"
        )
        return Workload(name, ours, theirs, equal, target=4.0, turns=self._turns)

    def _samples(self) -> Workload:
        prompt = self._text(PROMPT)

        def ours() -> None:
            _finished(self._empty().run(SAMPLE, prompt=prompt, count=SAMPLES, tokens=SAMPLE_TOKENS))

        def theirs() -> None:
            self._generate(
                [prompt],
                SAMPLE_TOKENS,
                do_sample=True,
                temperature=0.8,
                top_k=0,
                num_return_sequences=SAMPLES,
            )

        name = (
            f"{SAMPLES} samples of a prompt of {self._lengths([prompt])} tokens, "
            f"{SAMPLE_TOKENS} tokens"
        )
        return Workload(name, ours, theirs, lambda: "drawn apart", target=2.5, turns=self._turns)

    def _select(self) -> Workload:
        context = self._text(CONTEXT)
        questions = [
            {
                "question": f"What did number {at + 1} write about {' '.join(self._words(4))}?",
                "options": [f" {' '.join(self._words(3))}, {letter}" for letter in "abcd"],
            }
            for at in range(QUESTIONS)
        ]
        mine: list[SelectInfo] = []
        other: list[float] = []

        def ours() -> None:
            done = self._empty().run(ASK, context=context, questions=questions)
            infos = (branch.infos["answer"] for branch in done.root.branches)
            mine[:] = [info for info in infos if isinstance(info, SelectInfo)]

        def theirs() -> None:
            other[:] = [
                self._score(f"{context}\nQuestion: {asked['question']}\nAnswer:", option)
                for asked in questions[: MEASURED // OPTIONS]
                for option in asked["options"]
            ]

        def equal() -> str:
            scores = [info.scores[option] for info in mine for option in info.scores]
            worst = max(abs(a - b) for a, b in zip(scores, other, strict=False))
            return f"scores within {worst:.0e}"

        name = (
            f"select: {QUESTIONS} questions x {OPTIONS} options on a context of "
            f"{self._lengths([context])} tokens"
        )
        return Workload(
            name,
            ours,
            theirs,
            equal,
            target=30.0,
            turns=self._turns,
            scale=QUESTIONS * OPTIONS / MEASURED,
            options=QUESTIONS * OPTIONS,
        )

    # -- either side

    def _empty(self) -> Engine:
        """The engine, with nothing cached; its memory is warm after the first run."""
        self._engine.core.pool.clear()
        return self._engine

    def _generate(self, prompts: Sequence[str], tokens: int, **settings: Any) -> list[list[int]]:
        """New tokens of `generate` on one left-padded batch."""
        encoded = [self._encode(prompt) for prompt in prompts]
        longest = max(map(len, encoded))
        pads = [longest - len(each) for each in encoded]
        ids = [[0] * pad + each for pad, each in zip(pads, encoded, strict=True)]
        mask = [[0] * pad + [1] * (longest - pad) for pad in pads]
        out = self._hf.generate(
            torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            **settings,
        )
        return out[:, longest:].tolist()

    def _score(self, before: str, option: str) -> float:
        """Mean log-probability of the option's tokens."""
        ids = self._encode(before + option)
        own = len(ids) - len(self._encode(before))
        with torch.inference_mode():
            logits = self._hf(torch.tensor([ids]), use_cache=False, logits_to_keep=own + 1).logits
        logprobs = logits[0, :-1].log_softmax(-1)
        return float(logprobs.gather(1, torch.tensor(ids[-own:])[:, None]).mean())

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode([Piece(text)], start=True)

    # -- texts

    def _words(self, count: int) -> list[str]:
        return self._draw.choices(WORDS, k=count)

    def _text(self, tokens: int) -> str:
        """Words of about that many tokens."""
        return self._tokenizer.decode(self._encode(" ".join(self._words(2 * tokens)))[:tokens])

    def _lengths(self, texts: Sequence[str]) -> str:
        lengths = sorted({len(self._encode(text)) for text in texts})
        return "/".join(map(str, lengths))


def _finished(outcome: Finished | Exception) -> Finished:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def compare(work: Workload) -> dict[str, object]:
    work.ours()  # memory is warm from now on
    mine: list[float] = []
    other: list[float] = []
    for _ in range(work.turns):
        mine += seconds(work.ours, 1)
        other += seconds(work.theirs, 1)
    other = [work.scale * each for each in other]
    row: dict[str, object] = {
        "workload": work.name,
        "ratio": round(median(other) / median(mine), 2),
        "target": work.target,
        "equal": work.equal(),
        "seconds_ours": [round(each, 3) for each in mine],
        "seconds_transformers": [round(each, 3) for each in other],
    }
    if work.scale != 1:
        row["transformers_measured_on"] = f"1/{work.scale:g} of the work, scaled up"
    if work.options:
        row["options_per_s"] = round(work.options / median(mine), 1)
    return row


def line(row: dict[str, Any]) -> str:
    rate = f", {row['options_per_s']} options/s" if "options_per_s" in row else ""
    scaled = row.get("transformers_measured_on")
    return (
        f"[bold]{row['workload']}[/]: {median(row['seconds_ours']):.2f} s{rate}, transformers "
        f"{median(row['seconds_transformers']):.2f} s{f' ({scaled})' if scaled else ''}: "
        f"[bold]{row['ratio']}×[/] (target {row['target']}×); {row['equal']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Search against transformers.")
    parser.add_argument("--json", type=Path, default=Path("bench/results/search.json"))
    parser.add_argument("--only", choices=("beams", "select", "samples"), help="no file")
    parser.add_argument("--threads", type=int, help="of torch, for both sides")
    parser.add_argument("--quick", action="store_true", help="one turn, no file")
    options = parser.parse_args()

    if options.threads:
        torch.set_num_threads(options.threads)
    bench = Bench(options.quick)
    console = Console(soft_wrap=True)
    rows: list[dict[str, object]] = []
    for name, make in bench.workloads().items():
        if options.only in (None, name):
            rows.append(compare(make()))
            console.print(line(rows[-1]), highlight=False)
    if not options.quick and options.only is None:
        write(options.json, "search", rows)


if __name__ == "__main__":
    main()

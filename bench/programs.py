"""What programs cost: ten thousand that wait on a value, and the language's share of a run.

    python bench/programs.py [--json FILE] [--count N] [--turns N]

Waiting: each program draws a word and looks at it, so its body stands still in the middle. The
model is a toy that always says the same, on a byte tokenizer: memory and time of programs are
measured, and of all that the engine keeps for one that waits (tokens, a queued task). Each form is
measured in a process of its own, once for resident memory and once more under `tracemalloc`. Eight
draw while the others wait; `alone` is a round of those eight with nobody else there.

Share: 64 questions after five that are answered, in text form, through `run_batch` on SmolLM2. CPU
time of the engine's thread is charged to whoever is at work: an account changes hands where one
part calls another (`PARTS`), so the parts add up to the whole. `share` is the part of language,
interpreter and planner in that whole, the median of the turns, each with an empty cache. CPU time,
not wall time, because others use the machine; and torch has one thread, because helpers that wait
for a core spin, which on a busy machine makes the model look ten times as dear. What two cores
could make of it at best, the model in half the time, is `share_two_cores`. Reading the clock is
charged to the parts too: `clock` says how much that is.
"""

import argparse
import gc
import json
import multiprocessing
import os
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import wraps
from importlib import import_module
from pathlib import Path
from time import thread_time, thread_time_ns
from typing import Any

import torch
from byte_tokens import byte_tokenizer
from machine import median, write
from torch import Tensor

import ramet
from ramet.meter import Meter
from ramet.recorder import GraphRecorder
from ramet.runtime import Engine, EngineConfig, lookahead, run as runs
from ramet.runtime.core import EngineCore
from ramet.runtime.interpreter import Interpreter
from ramet.runtime.models import Model, ModelShape, PagedAttention, load_model
from ramet.runtime.strands import Strands
from ramet.runtime.tokenizer import Tokenizer
from ramet.runtime.works import Works

DRAWING = 8  # programs that draw while the others wait
ROUNDS = 40
MOST_BYTES = 50_000  # that a waiting program may take
MOST_SHARE = 0.02  # of a run that language, interpreter and planner may take

LOOKS = """
program looks(topic: str):
    "One word about {topic}:"
    gen word(max_tokens=64)
    if len(word) > 2:
        " It is long."
    return word
"""


@ramet.program
def looks(s: ramet.State, topic: str) -> object:
    s += f"One word about {topic}:"
    s += ramet.gen("word", max_tokens=64)
    if len(s["word"]) > 2:
        s += " It is long."
    return s["word"]


# -- programs that wait


class Says:
    """A model that always goes on with the same token."""

    def __init__(self) -> None:
        self.shape = ModelShape(
            layers=1,
            kv_heads=1,
            head_dim=1,
            vocab=257,
            context=4096,
            eos=frozenset(),
            dtype=torch.float32,
            name="says",
        )

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        logits = torch.zeros(len(rows), self.shape.vocab)
        logits[:, 40] = 1
        return logits


def waiting(form: str, count: int, traced: bool) -> dict[str, object]:
    """What `count` programs cost that wait, or what Python allocated for them."""
    program = looks if form == "Python" else ramet.loads(LOOKS)
    tokenizer = byte_tokenizer()
    alone = _rounds(_started(_engine(tokenizer), program, DRAWING))
    engine = _engine(tokenizer)
    gc.collect()
    if traced:
        tracemalloc.start()
    before, threads, began = _resident(), _threads(), thread_time()
    engine, all_of_them = _started(engine, program, count)
    engine.round(all_of_them)
    spent = thread_time() - began
    gc.collect()
    if traced:
        return {"traced_bytes": round(tracemalloc.get_traced_memory()[0] / count)}
    found = {
        "form": form,
        "programs": count,
        "bytes": round((_resident() - before) / count),
        "most_bytes": MOST_BYTES,
        "new_threads": _threads() - threads,
        "start_us": round(spent / count * 1e6, 1),
        "round_ms": _rounds((engine, all_of_them)),
        "round_alone_ms": alone,
    }
    assert not any(run.done for run in all_of_them), "they were to wait"
    return found


def _started(engine: Engine, program: Any, count: int) -> tuple[Engine, dict[runs.Run, None]]:
    started = (engine.start(program, {"topic": f"number {at}"}) for at in range(count))
    return engine, dict.fromkeys(started)


def _rounds(driven: tuple[Engine, dict[runs.Run, None]]) -> float:
    """Milliseconds of CPU time that a round takes."""
    engine, active = driven
    engine.round(active)
    times = []
    for _ in range(ROUNDS):
        began = thread_time()
        engine.round(active)
        times.append(thread_time() - began)
    return round(median(times) * 1e3, 3)


def _engine(tokenizer: Tokenizer) -> Engine:
    return Engine.of(Says(), tokenizer, EngineConfig(num_blocks=1024, max_sequences=DRAWING))


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def apart(call: Callable[..., dict[str, object]], *arguments: object) -> dict[str, object]:
    """The call in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


# -- the share of the language

FEW_SHOT = Path(__file__).parent.parent / "examples" / "few_shot.ramet"
ANSWERED = {
    "France": ("Paris", "lies on the Seine"),
    "Spain": ("Madrid", "is the highest capital of the Union"),
    "Portugal": ("Lisbon", "looks on the Tagus"),
    "Greece": ("Athens", "was named after a goddess"),
    "Norway": ("Oslo", "lies at the end of a long fjord"),
}
ASKED = (
    "Italy Poland Japan Germany Austria Hungary Sweden Finland Denmark Iceland Ireland Belgium "
    "Russia Ukraine Romania Bulgaria Serbia Croatia Albania Turkey Egypt Libya Tunisia Algeria "
    "Morocco Sudan Ethiopia Kenya Uganda Tanzania Ghana Nigeria Senegal Mali Chad Angola Zambia "
    "Zimbabwe Namibia Botswana Madagascar China Mongolia Nepal India Pakistan Iran Iraq Syria "
    "Jordan Lebanon Israel Thailand Vietnam Laos Cambodia Malaysia Indonesia Australia Canada "
    "Mexico Cuba Brazil Peru"
).split()

OWN = ("language", "interpreter", "planner")
# Who is at work inside each call; what a call makes in turn is charged to its own part.
PARTS: dict[str, list[tuple[Any, str]]] = {
    "language": [(Strands, "_switch"), (GraphRecorder, "add"), (Meter, "token")],
    "interpreter": [
        (Engine, "run_batch"),
        (Strands, "wait"),
        (Interpreter, "accept"),
        (Interpreter, "pump"),
        (Interpreter, "_ended"),
    ],
    "planner": [
        (runs, "admit"),
        (import_module("ramet.runtime.steps.once"), "work_key"),
        *((Works, name) for name in ("find", "begin", "end")),
        *((lookahead.Lookahead, name) for name in ("__init__", "look", "started", "close")),
    ],
    "engine": [(EngineCore, name) for name in ("step", "open", "fork", "close", "generate")],
    "tokenizer": [(Tokenizer, "encode")],
}


class Account:
    """CPU time of this thread, in nanoseconds, by the part that was at work."""

    def __init__(self) -> None:
        self.spent = Counter[str]()
        self.turns = 0
        self._part = "outside"
        self._since = thread_time_ns()

    def charge(self, target: Any, name: str, part: str) -> None:
        """From now on, that function of the target is work of that part."""
        function = getattr(target, name)

        @wraps(function)
        def charged(*args: Any, **kwargs: Any) -> Any:
            before = self._turn(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._turn(before)

        setattr(target, name, charged)

    def _turn(self, part: str) -> str:
        now = thread_time_ns()
        self.spent[self._part] += now - self._since
        self.turns += 1
        before, self._part, self._since = self._part, part, now
        return before


def few_shot(answers: str) -> list[dict[str, object]]:
    """The arguments of 64 runs; `answers` are "words" or "sentences"."""
    shots = [
        {
            "q": f"What is the capital of {land}?",
            "a": city if answers == "words" else f"The capital of {land} is {city}, which {more}.",
        }
        for land, (city, more) in ANSWERED.items()
    ]
    return [{"question": f"What is the capital of {land}?", "shots": shots} for land in ASKED]


def share(model: Model, tokenizer: Tokenizer, answers: str, turns: int) -> dict[str, object]:
    program, items = ramet.load(FEW_SHOT), few_shot(answers)
    seconds: list[dict[str, float]] = []
    steps = generated = reads = 0
    for _ in range(turns + 1):
        account.spent.clear()
        account.turns = 0
        engine = Engine.of(model, tokenizer, EngineConfig(num_blocks=2000))
        done = engine.run_batch(program, items)
        assert not any(isinstance(each, Exception) for each in done)
        seconds.append({part: spent / 1e9 for part, spent in account.spent.items()})
        generated = sum(each.usage.generated for each in done if not isinstance(each, Exception))
        steps, reads = engine.stats().steps, account.turns
    measured = [{part: each[part] for part in each if part != "outside"} for each in seconds[1:]]
    own = [_share(each, each["model"]) for each in measured]
    middle = {part: median([each[part] for each in measured]) for part in measured[0]}
    return {
        "workload": f"few-shot, {len(items)} questions, answers of {answers}",
        "steps": steps,
        "generated": generated,
        "share": round(median(own), 4),
        "most_share": MOST_SHARE,
        "shares": [round(each, 4) for each in own],
        "share_two_cores": round(median([_share(each, each["model"] / 2) for each in measured]), 4),
        "seconds": {part: round(value, 4) for part, value in sorted(middle.items())},
        "own_us_a_program": round(sum(middle[part] for part in OWN) / len(items) * 1e6),
        "clock_us_a_program": round(reads * _clock() / len(items) * 1e6),
    }


def _share(seconds: dict[str, float], model: float) -> float:
    own = sum(seconds[part] for part in OWN)
    return own / (own + seconds["engine"] + seconds["tokenizer"] + model)


def _clock() -> float:
    """Seconds that it takes to read the clock."""
    began = thread_time()
    for _ in range(10_000):
        thread_time_ns()
    return (thread_time() - began) / 10_000


account = Account()


def main() -> None:
    parser = argparse.ArgumentParser(description="What programs cost.")
    parser.add_argument("--json", type=Path, default=Path("bench/results/programs.json"))
    parser.add_argument("--count", type=int, default=10_000, help="programs that wait")
    parser.add_argument("--turns", type=int, default=3, help="measured turns of each workload")
    options = parser.parse_args()

    rows: list[dict[str, object]] = []
    for form in ("Python", "text"):
        found = apart(waiting, form, options.count, False)
        rows.append(found | apart(waiting, form, options.count, True))
        print(json.dumps(rows[-1], indent=1))

    torch.set_num_threads(1)
    model, directory = load_model("smollm2-135m", dtype="float32", cache=EngineConfig().models)
    tokenizer = Tokenizer.load(directory)
    for part, calls in ({"model": [(type(model), "forward")]} | PARTS).items():
        for target, name in calls:
            account.charge(target, name, part)
    for answers in ("sentences", "words"):
        rows.append(share(model, tokenizer, answers, options.turns))
        print(json.dumps(rows[-1], indent=1))
    write(options.json, "programs", rows)


if __name__ == "__main__":
    main()

"""Memory that samples and beams save by sharing blocks, against arXiv 2309.06180, section 6.3.

    python bench/sharing.py [--json bench/results/sharing.json] [--requests N] [--real N]

What is saved, in the paper's words: the blocks saved by sharing over the blocks without sharing.
In every forward pass all blocks that the pool holds are counted, and those that the sequences of
the pass would need if each had its own; both are summed over all passes. What is held counts in
full: also the partly filled block that a program's state keeps to go on from after its samples.

Requests have the mean lengths that the paper gives for its data sets in figure 11 (Alpaca: 19.31
tokens in and 58.45 out; ShareGPT: 161.31 and 337.99), drawn from log-normals of shape 1 and cut at
2,048 tokens in all, the context of the paper's OPT-13B. Samples and beams run to the drawn length.
No two requests share a prefix.

Which blocks samples share follows from the lengths alone. Which beams share follows from what
their model finds likely, so the model of the trace, which has one layer and takes no time, is made
to search somewhat like a language model: the last two tokens draw the logits, by a hash, from a
normal distribution so wide that a next token has an entropy of 1.3 nats. Beams that part see
different futures, overtake each other, and die out. The second table holds it against SmolLM2 on
the same few requests: it saves as much on short texts, and too much on long ones at widths over 2,
where SmolLM2's beams stay apart for longer.
"""

import argparse
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import torch
from byte_tokens import byte_tokenizer
from machine import write
from rich.console import Console
from rich.table import Table
from torch import Tensor

import ramet
from ramet.runtime import Engine, EngineConfig
from ramet.runtime.models import Model, ModelShape, PagedAttention, load_model
from ramet.runtime.tokenizer import Piece, Tokenizer

BLOCK = 16
CONTEXT = 2048
CONCURRENT = 16  # requests under way
WIDTHS = (2, 4, 6)

PROGRAMS = {
    "parallel sampling": ramet.loads("""
program samples(prompt: str, width: int, tokens: int):
    "{prompt}"
    gen out(n=width, temperature=1.0, max_tokens=tokens, ignore_eos=true)
"""),
    "beam search": ramet.loads("""
program beams(prompt: str, width: int, tokens: int):
    "{prompt}"
    gen out(beams=width, max_tokens=tokens, ignore_eos=true)
"""),
}


@dataclass(frozen=True, slots=True)
class Trace:
    """Mean lengths of the requests in a data set, and what the paper saved at widths 2 and 6."""

    name: str
    input: float
    output: float
    paper: Mapping[str, tuple[float, float]]

    def lengths(self, count: int, seed: int, most: int = CONTEXT) -> list[tuple[int, int]]:
        """Tokens in and out of that many requests, at most `most` together."""
        draw = random.Random(f"{self.name} {seed}")
        found: list[tuple[int, int]] = []
        while len(found) < count:
            before, after = (_log_normal(draw, mean) for mean in (self.input, self.output))
            if before + after <= most:
                found.append((before, after))
        return found


TRACES = (
    Trace(
        "Alpaca",
        19.31,
        58.45,
        {"parallel sampling": (0.061, 0.098), "beam search": (0.376, 0.552)},
    ),
    Trace(
        "ShareGPT",
        161.31,
        337.99,
        {"parallel sampling": (0.162, 0.305), "beam search": (0.443, 0.663)},
    ),
)


def _log_normal(draw: random.Random, mean: float) -> int:
    return max(1, round(draw.lognormvariate(log(mean) - 0.5, 1.0)))


class Bigrams:
    """Logits that the last two tokens draw, by a hash, out of a table of normal ones."""

    ROWS = 4096
    WIDTH = 5.0  # standard deviation of the logits

    def __init__(self, vocab: int) -> None:
        random_numbers = torch.Generator().manual_seed(0)
        self._table = self.WIDTH * torch.randn(self.ROWS, vocab, generator=random_numbers)
        self.shape = ModelShape(
            layers=1,
            kv_heads=1,
            head_dim=1,
            vocab=vocab,
            context=CONTEXT,
            eos=frozenset(),
            dtype=torch.float32,
            name="bigrams",
        )

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        """Keys are tokens: the one before the last is read through the block table."""
        step, cache = attention.plan.step, attention.backend.cache
        flat = tokens.float().view(-1, 1, 1)
        attention.backend.write(attention.plan, 0, flat, flat)
        sequence = torch.searchsorted(step.query_starts, rows, right=True) - 1
        before = (positions[rows] - 1).clamp(min=0)
        size = cache.layout.block_size
        slots = step.block_tables[sequence, before // size] * size + before % size
        pairs = cache.data[0, 0, 0, slots, 0].long() * 1_000_003 + tokens[rows]
        return self._table[pairs * 2_654_435_761 % (1 << 32) * self.ROWS >> 32]


class Metered:
    """A model that counts the blocks of every batch it is given."""

    def __init__(self, model: Model) -> None:
        self.shape = model.shape
        self.alone = self.held = 0  # blocks, summed over forward passes
        self._model = model
        self._engine: Engine | None = None

    def engine(self, tokenizer: Tokenizer) -> Engine:
        """One with room for everything, on this model."""
        config = EngineConfig(num_blocks=32_000, block_size=BLOCK, max_sequences=512)
        self._engine = Engine.of(self, tokenizer, config)
        return self._engine

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        assert self._engine is not None
        self.alone += int((-(-attention.plan.step.contexts // BLOCK)).sum())
        self.held += self._engine.stats().cache.held
        return self._model.forward(tokens, positions, attention, rows)

    @property
    def saved(self) -> float:
        """The share of blocks that need not be there."""
        return round(1 - self.held / self.alone, 4)


def measure(
    model: Model,
    tokenizer: Tokenizer,
    method: str,
    width: int,
    requests: Iterable[tuple[str, int]],
) -> Metered:
    """Serve the requests, each a prompt and a number of tokens, and count blocks."""
    metered = Metered(model)
    items = [{"prompt": prompt, "width": width, "tokens": tokens} for prompt, tokens in requests]
    engine = metered.engine(tokenizer)
    for outcome in engine.run_batch(PROGRAMS[method], items, concurrency=CONCURRENT):
        if isinstance(outcome, Exception):
            raise outcome
    return metered


def letters(lengths: Sequence[tuple[int, int]]) -> list[tuple[str, int]]:
    """Requests of random letters, one a token, so that none begin alike."""
    draw = random.Random(0)
    return [
        ("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=before)), after)
        for before, after in lengths
    ]


def questions(lengths: Sequence[tuple[int, int]], tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """Requests of as many tokens, in English, each with its questions in another order."""
    draw = random.Random(0)
    found: list[tuple[str, int]] = []
    for before, after in lengths:
        text = " ".join(" ".join(draw.sample(QUESTIONS, len(QUESTIONS))) for _ in range(4))
        tokens = tokenizer.encode([Piece(text)], start=True)
        found.append((tokenizer.decode(tokens[-before:]), after))
    return found


QUESTIONS = (
    "How does a bicycle stay upright when nobody holds it?",
    "Write a short story about the keeper of a lighthouse and her cat.",
    "What would you cook for six guests who do not eat meat?",
    "Explain the difference between a virus and a bacterium to a child.",
    "Describe a city that you like on a morning in winter.",
    "Which habits help a household to use less water?",
    "Why did the price of bread matter so much in the history of Europe?",
    "Summarise what a court of appeal does, and when it is asked.",
    "My plants turn yellow although I water them daily. What could be wrong?",
    "Give me a plan for learning to swim within three months.",
    "Compare trains and planes for a journey of five hundred kilometres.",
    "What makes a good title for a book about the sea?",
)


def trace_rows(requests: int) -> list[dict[str, object]]:
    """Both methods and all widths on both traces."""
    tokenizer = byte_tokenizer()
    model = Bigrams(257)
    rows: list[dict[str, object]] = []
    for trace in TRACES:
        items = letters(trace.lengths(requests, seed=0))
        for method, paper in trace.paper.items():
            for width in WIDTHS:
                found = measure(model, tokenizer, method, width, items)
                rows.append(
                    {
                        "trace": trace.name,
                        "method": method,
                        "width": width,
                        "saved": found.saved,
                        "paper": paper,
                    }
                )
    return rows


def real_rows(requests: int) -> list[dict[str, object]]:
    """Beams of SmolLM2 and of the trace's model on the same few requests."""
    smollm2, directory = load_model("smollm2-135m", dtype="float32", cache=EngineConfig().models)
    tokenizer, bytes_only = Tokenizer.load(directory), byte_tokenizer()
    rows: list[dict[str, object]] = []
    for trace in TRACES:
        lengths = trace.lengths(requests, seed=1, most=512)
        for width in WIDTHS:
            real = measure(smollm2, tokenizer, "beam search", width, questions(lengths, tokenizer))
            toy = measure(Bigrams(257), bytes_only, "beam search", width, letters(lengths))
            rows.append(
                {
                    "trace": f"{trace.name}, {requests} requests",
                    "width": width,
                    "saved_smollm2": real.saved,
                    "saved_bigrams": toy.saved,
                }
            )
    return rows


def show(console: Console, rows: list[dict[str, object]]) -> None:
    table = Table("method", "width", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for trace in TRACES:
        table.add_column(trace.name, justify="right")
        table.add_column("paper", justify="right")
    for method in PROGRAMS:
        for width in WIDTHS:
            cells: list[str] = []
            for trace in TRACES:
                row = next(
                    row
                    for row in rows
                    if (row["trace"], row["method"], row["width"]) == (trace.name, method, width)
                )
                ends = dict(zip((WIDTHS[0], WIDTHS[-1]), trace.paper[method], strict=True))
                cells += [f"{row['saved']:.1%}", f"{ends[width]:.1%}" if width in ends else ""]
            table.add_row(method, str(width), *cells)
    console.print(table)


def show_real(console: Console, rows: list[dict[str, object]]) -> None:
    table = Table(
        "beam search",
        "width",
        "SmolLM2",
        "bigrams",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for row in rows:
        saved = [f"{row[name]:.1%}" for name in ("saved_smollm2", "saved_bigrams")]
        table.add_row(str(row["trace"]), str(row["width"]), *saved)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory that sharing saves.")
    parser.add_argument("--json", type=Path, default=Path("bench/results/sharing.json"))
    parser.add_argument("--requests", type=int, default=100, help="of each trace")
    parser.add_argument("--real", type=int, default=4, help="requests for SmolLM2; 0: none")
    options = parser.parse_args()

    console = Console()
    rows = trace_rows(options.requests)
    show(console, rows)
    write(options.json, "sharing", rows)
    if options.real:
        real = real_rows(options.real)
        console.print()
        show_real(console, real)
        write(options.json, "sharing", rows + real)


if __name__ == "__main__":
    main()

"""Two programs on SmolLM2-135M: a few-shot classification, and tips from three branches.

make demo
"""

import time

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

import ramet
from ramet.runtime import Engine, Finished
from ramet.runtime.report import sharing_table, state_tree

SHOTS = [
    ("The acting was superb and I laughed all the way through.", "positive"),
    ("Two hours of my life that I will never get back.", "negative"),
    ("It opens in Lisbon and was filmed over six weeks.", "neutral"),
    ("An instant classic, I want to see it again tonight.", "positive"),
    ("The plot makes no sense and the sound is terrible.", "negative"),
    ("The film runs for ninety minutes and has subtitles.", "neutral"),
]
REVIEWS = [
    "A warm, funny and beautifully filmed story.",
    "I fell asleep after twenty minutes of this mess.",
    "The director also made two documentaries.",
    "What a wonderful surprise, my whole family loved it!",
    "Boring, predictable and far too long.",
]


@ramet.program
def classify(s: ramet.State, review: str) -> object:
    """Few-shot: every review follows the same examples, which are computed once for all."""
    for text, label in SHOTS:
        s += f"Review: {text}\nSentiment: {label}\n\n"
    s += f"Review: {review}\nSentiment:"
    s += ramet.select("label", [" positive", " negative", " neutral"])
    return {"label": s["label"], "probability": s["label"].prob}


@ramet.program
def tips(s: ramet.State, topic: str, n: int = 3) -> object:
    """Branches that share the question write side by side; a summary reads what they wrote."""
    s += ramet.system("You are a concise expert.")
    s += ramet.user(f"Give me {n} tips about {topic}.")
    with s.assistant():
        branches = s.fork(n)
        for i, branch in enumerate(branches):
            branch += f"Tip {i + 1}:"
            branch += ramet.gen("tip", max_tokens=40, stop="\n", temperature=0.6)
        s += "Here are the tips.\n" + branches["tip"].join("\n") + "\nIn summary,"
        s += ramet.gen("summary", max_tokens=48, stop="\n")
    return {"tips": branches["tip"], "summary": s["summary"]}


def main() -> None:
    console = Console()
    started = time.perf_counter()
    with console.status("Loading SmolLM2-135M (the first time converts it, about half a minute)…"):
        engine = Engine("smollm2-135m")
    console.print(f"[dim]SmolLM2-135M is ready after {time.perf_counter() - started:.1f} s[/]\n")

    runs: list[Finished] = []
    with engine:
        console.rule("[bold]Few-shot classification: one select, five reviews together")
        for outcome in engine.run_batch(classify, [{"review": review} for review in REVIEWS]):
            if isinstance(outcome, Exception):
                raise outcome
            runs.append(outcome)
        console.print(Padding(classification(runs), (1, 2)))

        console.rule("[bold]Tips: a fork of three, and a summary")
        told = engine.run(tips.seeded(9), topic="brewing a good cup of tea")
        runs.append(told)
        for number, tip in enumerate(told.value["tips"], 1):
            console.print(Padding(f"[bold]{number}.[/]{tip}", (1 if number == 1 else 0, 2, 0, 2)))
        console.print(Padding(f"[bold]In summary,[/]{told.value['summary']}", (1, 2)))

        console.rule("[bold]What sharing saved")
        stats = engine.stats()
        console.print(Padding(sharing_table(runs, stats, engine.config.block_size), (1, 2, 0, 2)))
        console.print(Padding(state_tree(runs[1]), (1, 2, 0, 2)))
        console.print(Padding(state_tree(told), (0, 2)))
        engine.audit()


def classification(runs: list[Finished]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("review")
    table.add_column("label", style="bold")
    table.add_column("probability")
    for review, run in zip(REVIEWS, runs, strict=True):
        probability = float(run.value["probability"])
        bar = f"{'█' * round(20 * probability):20} {probability:.0%}"
        table.add_row(review, str(run.value["label"]).strip(), bar)
    return table


if __name__ == "__main__":
    main()

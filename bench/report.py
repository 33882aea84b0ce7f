"""Makes docs/performance.md and its pictures from bench/results/*.json, and from nothing else.

    python bench/report.py

What is not measured yet is said to be so. The same results give the same bytes.
"""

from pathlib import Path
from textwrap import fill

from reporting import inside, outside, served
from reporting.records import Record, load
from reporting.section import Section, unknown
from reporting.tables import table

ROOT = Path(__file__).parents[1]
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"

SECTIONS = (
    Section(
        "Beside peers",
        "peers",
        "python bench/peers.py",
        "SmolLM2-135M, the same prompts and the same number of tokens on every side, peers in "
        "environments of their own, runs in turns, nothing cached before a run. `bench/README.md` "
        "says how each side does each workload.",
        outside.peers,
    ),
    Section(
        "What the processor allows",
        "bounds",
        "python bench/bounds.py",
        "The same workloads, had nothing to be done but the linear layers' products of what our "
        "engine cannot share, at the speed they have in registers, or one reading of the weights a "
        "step. A target that needs more than that is bold: it was set on a processor on which the "
        "peer is slower (`docs/decisions/0034`).",
        outside.bounds,
    ),
    Section(
        "The engine beside transformers",
        "engine-cpu",
        "python bench/engine.py",
        "The same model and prompts in the same process, in turns. Own time is what a step spends "
        "outside the model's forward pass.",
        outside.engine,
    ),
    Section(
        "Search",
        "search",
        "python bench/search.py",
        "Beams, select and samples in float32, beside `transformers` in the same process.",
        outside.search,
    ),
    Section(
        "Typed text",
        "constrained",
        "python bench/constrained.py",
        "The time of a token within a type over that of a free one, 16 texts in a batch. Forced "
        "tokens are run and not drawn; a token is drawn twice where the first draw is none of the "
        "grammar's.",
        outside.constrained,
    ),
    Section(
        "Memory that sharing saves",
        "sharing",
        "python bench/sharing.py",
        "As in section 6.3 of the PagedAttention paper (arXiv 2309.06180), with requests as "
        "long as it has them.",
        outside.sharing,
    ),
    Section(
        "Linear layers",
        "linear",
        "python bench/linear.py",
        "Billions of multiplications and additions a second in the linear layers of SmolLM2-135M, "
        "all 30 layers with weights of their own. Ours give a row the same bits in any batch; in "
        "int8 they take a scale for every 64 inputs of it, and rotate them. FBGEMM takes one scale "
        "for the whole batch.",
        inside.linear,
    ),
    Section(
        "All layers in one call",
        "layers",
        "python bench/layers.py",
        "A step that decodes one token of each of some sequences, in milliseconds: all layers as "
        "one operator, and the same operators called one by one from Python "
        "(`docs/decisions/0035`).",
        inside.layers,
    ),
    Section(
        "Quality of what is rounded",
        "quality",
        "python bench/quality.py",
        "SmolLM2-135M in int8 and bfloat16 against itself in float32, on the manual of Python.",
        inside.quality,
    ),
    Section(
        "Kernels on CPU",
        "kernels",
        "python bench/kernels.py",
        "Each kernel's bytes and operations a second as shares of what a copy and a large product "
        "reach on the same machine. int8 has cheaper operations than float32, so its share of "
        "float32's can be over 100 %.",
        inside.kernels,
    ),
    Section(
        "On a GPU",
        "gpu",
        "python bench/gpu.py",
        "Attention beside a copy within the device's memory, decode steps of random weights in the "
        "shape of Llama-3.1-8B in bfloat16, and search beside `transformers`.",
        outside.gpu,
    ),
    Section(
        "A decode step as work grows",
        "scaling",
        "python bench/scaling.py",
        "SmolLM2-135M, one token of each sequence: scheduled, packed and run to its logits. With a "
        "shared prefix, all of a context but its last 32 tokens is one for all sequences.",
        inside.scaling,
    ),
    Section(
        "Scheduler and cache as work grows",
        "scaling",
        "python bench/scaling.py",
        "The same step without a model, in a pool that is full, so that a new block evicts one. "
        "`pack` makes tensors of tables and positions and plans the attention. `turnover` is what "
        "a sequence that ends, and one that comes with as long a prompt, found in the cache, add "
        "to a step.",
        inside.bookkeeping,
    ),
    Section(
        "The block cache alone",
        "cache",
        "python bench/cache.py",
        "Its part of a decode step, and what it does with a prompt as a whole.",
        inside.cache,
    ),
    Section(
        "Eviction by plan",
        "eviction",
        "python bench/eviction.py",
        "Traces with more contexts than blocks, replayed on the cache: tokens that are computed "
        "again under LRU, by plan, and at best (Belady). The plot shows each trace's middle pool.",
        inside.eviction,
    ),
    Section(
        "Programs",
        "programs",
        "python bench/programs.py",
        "What a program costs that waits, and the language's, the interpreter's and the planner's "
        "share of few-shot work.",
        inside.programs,
    ),
    Section(
        "The server: one request for twelve",
        "server-calls",
        "python bench/server.py --only calls",
        "Twelve generations with SmolLM2-135M: plans in four branches, the details of each, a "
        "choice, an answer in three parts. As one program, and as calls that the `openai` client "
        "sends to the same server, one after the other or all at once that the data allows. The "
        "delay is a proxy's, which delays connecting too; nothing is cached when a run begins.",
        served.calls,
    ),
    Section(
        "The server: streams beside the engine",
        "server-streams",
        "python bench/server.py --only streams",
        "The same programs at once through server-sent events and on the engine in the same "
        "process, in turns. The engine with its events is `AsyncEngine.stream`, the engine alone "
        "`AsyncEngine.run`; tokens are counted to the end of the last text.",
        served.streams,
    ),
    Section(
        "The server: overload",
        "server-overload",
        "python bench/server.py --only overload",
        "Requests that come four times as often as the server can take them, at random moments, "
        "from eight tenants, whether those before are answered or not. The peak is what 128 "
        "clients get done who ask again as soon as they are answered, measured in turns with it. "
        "All settings but the keys are the defaults.",
        served.overload,
    ),
    Section(
        "The server: what time tells",
        "server-timing",
        "python bench/server.py --only timing",
        "Whether the time to a first token tells that a prompt of 200 words was sent before: the "
        "area under the ROC curve (0.5: nothing is told, 1: everything), with DeLong's interval.",
        served.timing,
    ),
    Section(
        "The server: minutes under load",
        "server-soak",
        "python bench/server.py --soak 10",
        "Programs of all kinds, batches, stored ones and other dialects on a tiny random model, "
        "with clients that leave and clients that make mistakes. Memory is that of the server's "
        "process, its growth the slope in the second half of the time.",
        served.soak,
    ),
)

HEAD = """# Performance

What `bench/` measured, losses beside wins. This page is made from `bench/results/*.json` by
`make report`; no figure in it is typed. Ratios are between runs that were neighbours in time on the
same machine, and say more than speeds do: these were measured on small machines that may have had
other work. Under each section stand its file, machine, versions and commit.

To repeat: `make bench` runs all commands, one after the other; each alone writes its own file."""


def page(records: dict[str, Record]) -> tuple[str, dict[str, str]]:
    """The text, and the pictures by the names of their files."""
    known = {section.result for section in SECTIONS}
    more = [
        Section(f"Other results: {name}", name, "", f"`{record.benchmark}`", unknown)
        for name, record in records.items()
        if name not in known
    ]
    bodies = [section.body(records) for section in (*SECTIONS, *more)]
    pictures = {name: svg for body in bodies for name, svg in body.pictures.items()}
    parts = [HEAD, contents(records), *(part for body in bodies for part in body.parts)]
    return "\n\n".join(map(wrapped, parts)) + "\n", pictures


def wrapped(part: str) -> str:
    """Prose in short lines; tables, pictures and headings as they are."""
    return part if part[0] in "|!<#" else fill(part, 104, break_on_hyphens=False)


def contents(records: dict[str, Record]) -> str:
    lines = [
        [
            section.title,
            f"`{section.command}`",
            "measured" if section.result in records else "not measured yet",
        ]
        for section in SECTIONS
    ]
    return table(["section", "command", ""], lines)


def main() -> None:
    text, pictures = page(load(RESULTS))
    (DOCS / "performance.md").write_text(text)
    for old in (DOCS / "pictures").glob("performance-*.svg"):
        if old.name not in pictures:
            old.unlink()
    for name, svg in pictures.items():
        (DOCS / "pictures" / name).write_text(svg)


if __name__ == "__main__":
    main()

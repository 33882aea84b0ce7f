"""ramet beside its peers: the same workloads, on the same machine, in turns, in one call.

    python bench/peers.py [--json bench/results/peers.json] [--environments FOLDER]
                          [--only plain,tree] [--peers vllm,llama.cpp] [--quick]

SmolLM2-135M: ramet in float32, bfloat16 and int8, transformers (`generate` and its continuous
batching), llama.cpp on the file as it is, in Q4_1, and vLLM's CPU build in bfloat16 and float32.
One peer is loaded at a time, in an environment and a process of its own; ours and it run by turns,
the other idle, with equally many threads. Every run begins with nothing cached. Speeds are medians;
a ratio is of medians of runs that were neighbours in time, against the better of a peer's
precisions.
`bench/peers/workloads.py` says what is done; where a peer would take minutes it does a part, and
its time is scaled up. A workload that a peer does not offer is told, with why.
`bench/peers/environments.py` makes what the peers run in; what is missing is made first.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import write
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from environments import FOLDER, make
from ours import Ours
from worker import PEERS, NotMeasured, Peer, Worker
from workloads import Workload, workloads

from ramet.runtime.embedded import embedded_file
from ramet.runtime.tokenizer import Piece

DTYPES = ("float32", "bfloat16", "int8")
SPARE = ("transformers", "continuous")  # nothing has to be reached: one turn, against float32
LONG = 8.0  # seconds of a peer's run: one that takes longer is not repeated


@dataclass(frozen=True, slots=True)
class Turns:
    """Ours and one peer on one workload."""

    peer: list[float]  # seconds of the whole work
    ours: dict[str, list[float]]  # by dtype
    scale: float  # what the peer's seconds were multiplied by
    equal: str  # of its texts, how many ours in float32 wrote too

    def ratio(self, dtype: str) -> float:
        return median(self.peer) / median(self.ours[dtype])


@dataclass(slots=True)
class Row:
    """One workload beside all peers."""

    work: Workload
    turns: dict[str, Turns] = field(default_factory=dict)  # by the peer's name
    missing: dict[str, str] = field(default_factory=dict)  # why there are none

    def speeds(self) -> dict[str, float]:
        """Units a second."""
        found: dict[str, float] = {}
        for dtype in DTYPES:
            times = [t for each in self.turns.values() for t in each.ours.get(dtype, ())]
            if times:
                found[dtype] = round(self.work.count / median(times), 2)
        for name, each in self.turns.items():
            found[name] = round(self.work.count / median(each.peer), 2)
        return found

    def ratios(self) -> dict[str, dict[str, float]]:
        """Ours to the better one of a family, and what it has to be."""
        found: dict[str, dict[str, float]] = {}
        families = {
            peer.family: [p.name for p in PEERS if p.family == peer.family] for peer in PEERS
        }
        for family, names in families.items():
            measured = [self.turns[name] for name in names if name in self.turns]
            for dtype in measured[0].ours if measured else ():
                key = f"{dtype}/{family}"
                found[key] = {"ratio": round(min(each.ratio(dtype) for each in measured), 2)}
                if key in self.work.targets:
                    found[key]["target"] = self.work.targets[key]
        return found

    def record(self) -> dict[str, object]:
        return {
            "workload": self.work.name,
            "title": self.work.title,
            "unit": self.work.unit,
            "count": self.work.count,
            "per_s": self.speeds(),
            "ratios": self.ratios(),
            "missing": self.missing,
            "scaled": {name: each.scale for name, each in self.turns.items() if each.scale != 1},
            "equal_texts": {name: each.equal for name, each in self.turns.items()},
            "seconds": {
                name: {"peer": _rounded(each.peer)}
                | {dtype: _rounded(times) for dtype, times in each.ours.items()}
                for name, each in self.turns.items()
            },
        }


class Bench:
    """Ours, loaded once, and the workloads."""

    def __init__(self, only: set[str] | None, quick: bool) -> None:
        self.ours = {dtype: Ours(dtype) for dtype in DTYPES}
        self._quick = quick
        self._warm: set[tuple[str, str]] = set()  # workloads ours has run
        self._small = {work.name: work for work in workloads(self._encode, quick=True)}
        works = list(self._small.values()) if quick else workloads(self._encode)
        self.rows = [Row(work) for work in works if only is None or work.name in only]

    @property
    def directory(self) -> Path:
        return self.ours["float32"].directory

    def beside(self, peer: Peer, worker: Worker, tell: Callable[[str], None]) -> None:
        for row in self.rows:
            try:
                row.turns[peer.name] = self._turns(peer, worker, row.work)
                tell(f"{peer.name}, {row.work.name}: {told(row, peer)}")
            except NotMeasured as lack:
                row.missing[peer.name] = str(lack)
                tell(f"{peer.name}, {row.work.name}: {lack}")

    def _turns(self, peer: Peer, worker: Worker, work: Workload) -> Turns:
        asked = work
        if peer.family in work.slow:
            asked = work.part(work.slow[peer.family])
        else:
            worker.run(self._small[work.name])  # memory and compiled code are warm from now on
        scale = len(work.requests) / len(asked.requests)
        dtypes = DTYPES[:1] if peer.family in SPARE else DTYPES
        for dtype in dtypes:
            if (work.name, dtype) not in self._warm:
                self.ours[dtype].run(work)
                self._warm.add((work.name, dtype))
        times: list[float] = []
        mine: dict[str, list[float]] = {dtype: [] for dtype in dtypes}
        texts: dict[str, list[str]] = {}
        drawn: list[list[int]] = []
        for turn in range(1 if self._quick or peer.family in SPARE else work.turns):
            if turn and times[0] / scale > LONG:
                break
            for dtype in dtypes:
                seconds, texts[dtype] = self.ours[dtype].run(work)
                mine[dtype].append(seconds)
            answer = worker.run(asked)
            times.append(scale * answer.seconds)
            drawn = answer.drawn
        equal = self._equal(asked, texts["float32"], drawn)
        return Turns(times, mine, round(scale, 2), equal)

    def _equal(self, work: Workload, ours: list[str], drawn: list[list[int]]) -> str:
        if work.kind == "sample":
            return "drawn apart"
        if work.kind in ("score", "steps"):
            pairs = zip(work.requests, drawn, strict=True)
            theirs = [request.options[found] for request, (found,) in pairs]
            same = sum(a == b for a, b in zip(ours, theirs, strict=False))
        else:
            theirs = [self.ours["float32"].tokenizer.decode(ids) for ids in drawn]
            same = len(set(ours) & set(theirs))
        return f"{same}/{len(theirs)}"

    def _encode(self, text: str, start: bool) -> list[int]:
        return self.ours["float32"].tokenizer.encode([Piece(text)], start=start)


def told(row: Row, peer: Peer) -> str:
    turns, work = row.turns[peer.name], row.work
    ours = ", ".join(f"{name} {work.count / median(t):.1f}" for name, t in turns.ours.items())
    ratios = ", ".join(f"{turns.ratio(dtype):.2f}×" for dtype in turns.ours)
    part = f" (scaled by {turns.scale:g})" if turns.scale != 1 else ""
    return (
        f"{work.count / median(turns.peer):.2f} {work.unit}/s{part}, ours {ours}: {ratios}; "
        f"equal texts {turns.equal}"
    )


def table(rows: list[Row]) -> Table:
    names = [*DTYPES, *(peer.name for peer in PEERS if any(peer.name in r.turns for r in rows))]
    found = Table("workload", "unit/s", *names, "to reach")
    for row in rows:
        speeds = row.speeds()
        reach = [
            f"{key} {each['ratio']:g}× of {each['target']:g}×"
            for key, each in row.ratios().items()
            if "target" in each
        ]
        cells = [f"{speeds[name]:g}" if name in speeds else "–" for name in names]
        found.add_row(row.work.name, row.work.unit, *cells, "\n".join(reach))
    return found


def _rounded(times: list[float]) -> list[float]:
    return [round(t, 3) for t in times]


def _names(text: str | None, known: set[str], parser: argparse.ArgumentParser) -> set[str] | None:
    names = None if text is None else set(text.split(","))
    if names is not None and (unknown := names - known):
        parser.error(f"no {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description="ramet beside its peers")
    parser.add_argument("--json", type=Path, default=Path("bench/results/peers.json"))
    parser.add_argument("--environments", type=Path, default=FOLDER)
    parser.add_argument("--only", help="workloads, with commas between them; no file")
    parser.add_argument("--peers", help="families of peers, with commas between them; no file")
    parser.add_argument("--quick", action="store_true", help="little work, one turn, no file")
    options = parser.parse_args()

    known = {work.name for work in workloads(lambda text, start: list(text.encode()), quick=True)}
    only = _names(options.only, known, parser)
    families = _names(options.peers, {peer.family for peer in PEERS}, parser)
    peers = [peer for peer in PEERS if families is None or peer.family in families]
    make(options.environments, list(dict.fromkeys(peer.environment for peer in peers)))

    console = Console(soft_wrap=True)
    bench = Bench(only, options.quick)
    versions: dict[str, Any] = {}
    gguf, threads = embedded_file("smollm2-135m"), torch.get_num_threads()
    for peer in peers:
        try:
            with Worker(peer, options.environments, bench.directory, gguf, threads) as worker:
                versions[peer.name] = dict(worker.versions)
                bench.beside(peer, worker, lambda line: console.print(line, highlight=False))
        except NotMeasured as failure:
            console.print(f"{peer.name}: {failure}", highlight=False)
            for row in bench.rows:
                row.missing[peer.name] = str(failure)
    console.print(table(bench.rows))
    if not options.quick and only is None and families is None:
        write(options.json, "peers", [row.record() for row in bench.rows], peers=versions)


if __name__ == "__main__":
    main()

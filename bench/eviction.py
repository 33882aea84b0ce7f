"""What eviction by plan saves: tokens computed again, beside LRU and the optimum. No model.

    python bench/eviction.py [--json FILE]

A trace is a list of requests, each a text of whole blocks of which a text before it may have had
the beginning. They are served one after the other, as a table does it: find what is cached, compute
the rest, give all blocks up. More contexts take turns than the pool has blocks for, so some are
computed again; the first computation of a block is nobody's fault and is not counted.

The policies are the cache's own: `lru` with nothing expected, `plan n` where the next n requests
are always expected, `plan all` where every request is expected from the start. The optimum is
worked out here, from the trace alone: Belady's MIN for requests that need several blocks at once.
When a request needs room, the blocks that it does not read itself and whose next use is farthest
go. For blocks of one size and one cost that is the least any policy can compute, whatever it knows
(exchange argument: to keep the block that is used sooner never costs more). So it is a bound for
this cache too, which can use a block only together with those before it: MIN may keep any. And it
is reached, since the next use of a block is never later than that of a block which builds on it: of
equally late ones the last in a text can go first, and no text ever loses its middle.
"""

import argparse
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from heapq import nlargest
from pathlib import Path
from time import perf_counter

from machine import write

from ramet.cache import BlockPool, BlockTable, Expectation

BLOCK = 16
SHARES = (0.25, 0.5, 0.75)
ALL = 1 << 62
# How many requests are expected at any time.
POLICIES = {"lru": 0, "plan 4": 4, "plan 16": 16, "plan 64": 64, "plan all": ALL}

Text = list[int]
Trace = list[Text]


@dataclass(frozen=True, slots=True)
class Row:
    """One trace on one pool."""

    trace: str
    requests: int
    tokens: int  # of all requests
    once: int  # tokens, each computed once
    reused: int  # blocks that are used more than once
    pool: int  # blocks
    again: dict[str, int]  # tokens computed again, by policy
    microseconds: dict[str, float]  # spent in the cache, a block of the requests


def main() -> None:
    parser = argparse.ArgumentParser(description="What eviction by plan saves.")
    parser.add_argument("--json", type=Path, default=Path("bench/results/eviction.json"))
    options = parser.parse_args()
    rows: list[Row] = []
    for name, make in TRACES.items():
        trace = make(random.Random(0))
        for share in SHARES:
            row = measured(name, trace, share)
            if not rows:
                print("thousand tokens computed again")
                print(f"{'trace':<20}{'blocks':<14}" + "".join(f"{each:>10}" for each in row.again))
            again = "".join(f"{tokens / 1e3:>10.1f}" for tokens in row.again.values())
            print(f"{name:<20}{f'{row.pool} of {row.reused}':<14}{again}", flush=True)
            rows.append(row)
    write(options.json, "eviction", [asdict(row) for row in rows])


def measured(name: str, trace: Trace, share: float) -> Row:
    """One trace on a pool for a share of the blocks that are used more than once."""
    paths = blocks_of(trace)
    counted = Counter(block for path in paths for block in path)
    reused = sum(count > 1 for count in counted.values())
    pool = int(share * reused)
    assert max(map(len, paths)) <= pool, "a request that does not fit"
    tokens = sum(map(len, trace))
    served = {policy: serve(trace, pool, ahead) for policy, ahead in POLICIES.items()}
    again = {policy: each.computed - len(counted) * BLOCK for policy, each in served.items()}
    return Row(
        trace=name,
        requests=len(trace),
        tokens=tokens,
        once=len(counted) * BLOCK,
        reused=reused,
        pool=pool,
        again=again | {"optimum": (optimum(paths, pool) - len(counted)) * BLOCK},
        microseconds={
            policy: round(each.seconds * 1e6 * BLOCK / tokens, 2) for policy, each in served.items()
        },
    )


@dataclass(frozen=True, slots=True)
class Served:
    """What a trace came to."""

    computed: int  # tokens
    seconds: float  # in the cache


def serve(trace: Trace, pool_blocks: int, ahead: int) -> Served:
    """Run the trace on the real cache, with the next `ahead` requests expected at any time."""
    pool = BlockPool(pool_blocks, BLOCK, seed=0)
    if ahead == ALL:
        pool.plan.limit = ALL
    expected: deque[Expectation] = deque()
    known = computed = 0
    started = perf_counter()
    for at, text in enumerate(trace):
        while known < min(at + ahead, len(trace)):
            expected.append(pool.expect(trace[known], known))
            known += 1
        table = BlockTable(pool)
        found = table.adopt(text)
        if expected:
            expected.popleft().drop()
        table.reserve(len(text) - found)
        table.commit(text[found:])
        table.release()
        computed += len(text) - found
    seconds = perf_counter() - started
    pool.audit([])
    return Served(computed, seconds)


def blocks_of(trace: Trace) -> list[list[int]]:
    """Each text as numbers of its blocks; equal numbers are equal texts up to a block's end."""
    numbers: dict[tuple[int, ...], int] = {}
    paths: list[list[int]] = []
    for text in trace:
        path = [-1]
        for start in range(0, len(text), BLOCK):
            block = (path[-1], *text[start : start + BLOCK])
            path.append(numbers.setdefault(block, len(numbers)))
        paths.append(path[1:])
    return paths


def optimum(paths: list[list[int]], pool: int) -> int:
    """The fewest blocks that have to be computed: Belady's MIN, as the docstring above says."""
    uses: dict[int, deque[int]] = defaultdict(deque)
    for at, path in enumerate(paths):
        for block in path:
            uses[block].append(at)
    cached: set[int] = set()
    next_use: dict[int, int] = {}
    computed = 0
    for path in paths:
        computed += len(set(path) - cached)
        cached.update(path)
        for block in path:
            uses[block].popleft()
            next_use[block] = uses[block][0] if uses[block] else ALL
        over = len(cached) - pool
        if over > 0:
            others = cached.difference(path)
            cached.difference_update(nlargest(over, others, key=next_use.__getitem__))
    return computed


# -- traces


def tokens(draw: random.Random, blocks: int) -> Text:
    return draw.choices(range(50_000), k=blocks * BLOCK)


def few_shot(draw: random.Random) -> Trace:
    """Items of 16 tasks in turn, each with its task's 48 blocks of examples before it."""
    tasks = [tokens(draw, 48) for _ in range(16)]
    return [task + tokens(draw, 4) for _ in range(40) for task in tasks]


def popular(draw: random.Random) -> Trace:
    """Questions about 64 documents after one instruction, some asked about far more (Zipf)."""
    instruction = tokens(draw, 8)
    documents = [instruction + tokens(draw, draw.randint(12, 48)) for _ in range(64)]
    weights = [1 / rank for rank in range(1, 65)]
    return [text + tokens(draw, 4) for text in draw.choices(documents, weights, k=1_000)]


def tree_search(draw: random.Random) -> Trace:
    """Walks from the root of a growing tree of steps, 4 blocks each: to a child that was visited
    often already, or to a new one, eight steps deep."""
    children: dict[int, list[int]] = defaultdict(list)
    visits: dict[int, int] = defaultdict(int)
    texts = [tokens(draw, 16)]
    trace: Trace = []
    for _ in range(1_000):
        at, path = 0, list(texts[0])
        for _ in range(8):
            known = children[at]
            at = draw.choices([*known, -1], [*(visits[child] for child in known), 1.5])[0]
            if at < 0:
                at = len(texts)
                texts.append(tokens(draw, 4))
                known.append(at)
            visits[at] += 1
            path += texts[at]
        trace.append(path)
    return trace


def chats(draw: random.Random) -> Trace:
    """48 conversations of 16 turns, whoever is next: each turn reads all that was said before."""
    start = tokens(draw, 16)
    said = [list(start) for _ in range(48)]
    order = [chat for chat in range(48) for _ in range(16)]
    draw.shuffle(order)
    trace: Trace = []
    for chat in order:
        said[chat] += tokens(draw, draw.randint(2, 8))
        trace.append(list(said[chat]))
    return trace


TRACES: dict[str, Callable[[random.Random], Trace]] = {
    "few-shot, in turn": few_shot,
    "documents, Zipf": popular,
    "tree search": tree_search,
    "chats": chats,
}

if __name__ == "__main__":
    main()

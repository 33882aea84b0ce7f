"""How a worker talks: a line of JSON in, a line out. Standard library only, as all have it.

In: a workload as JSON. Out: `{"seconds", "drawn": ids of each request}`, or `{"missing": why}`
where the peer does not offer it. The first line out, when the model is loaded, is
`{"versions": {...}}`. All that a peer prints itself goes to stderr.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from time import perf_counter
from typing import Any

Work = dict[str, Any]
Ids = list[int]
Draw = Callable[[list[Ids]], list[Ids]]


class NotOffered(Exception):
    """The peer has no way to do that; the message says what is lacking."""


def serve(
    load: Callable[[], Callable[[Work], Callable[[], list[Ids]]]], names: Iterable[str]
) -> None:
    """Answer until stdin ends.

    Args:
        load: loads the model, and gives what makes a workload ready: nothing is cached after that,
            and what it gives is timed.
        names: distributions whose versions are told.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepare = load()
    _say(out, {"versions": {name: version(name) for name in names}})
    for line in sys.stdin:
        try:
            run = prepare(json.loads(line))
            started = perf_counter()
            drawn = run()
            _say(out, {"seconds": perf_counter() - started, "drawn": drawn})
        except NotOffered as lack:
            _say(out, {"missing": str(lack)})


def by_rounds(work: Work, draw: Draw) -> list[Ids]:
    """Rounds one after the other: whole contexts go in, what was drawn comes out and is read on."""
    texts = work["width"] if work["kind"] == "sample" else 1
    read: list[Ids] = []
    drawn: list[Ids] = []
    for batch in work["rounds"]:
        contexts = [_before(request, read) + request["ids"] for request in batch]
        found = draw(contexts)
        lengths = {len(each) for each in found}
        assert work["kind"] == "json" or lengths == {texts * work["tokens"]}, lengths
        drawn += found
        read += [context + new for context, new in zip(contexts, found, strict=True)]
    return drawn


def shared(contexts: list[Ids]) -> int:
    """How many first tokens are the same in all; never the whole of one."""
    low, high = min(contexts), max(contexts)
    least = min(map(len, contexts)) - 1
    return next((at for at in range(least) if low[at] != high[at]), least)


def requests(work: Work) -> list[dict[str, Any]]:
    return [request for batch in work["rounds"] for request in batch]


def _before(request: dict[str, Any], read: list[Ids]) -> Ids:
    return [] if request["parent"] is None else read[request["parent"]]


def _say(out: Any, answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()

"""Whether one can tell by the time to the first token that somebody has sent the same prompt.

Two tenants of one server. In a trial another one sends a prompt that nobody sent before, and then
the attacker sends either that one or another that nobody sent, drawn by chance; the time from the
attacker's request to its first token is taken. A `within` trial is the same but for who sends
first, which is the attacker's own tenant. Trials of both kinds follow each other at random. What is
told is the area under the ROC curve of guessing that a prompt was sent when its first token comes
soon, with DeLong's interval of 95 %.
"""

import random
from statistics import median
from time import perf_counter
from typing import Any

from serving.connection import Connection, post
from serving.figures import area
from serving.hosting import Hosted, hosted
from serving.texts import words

ATTACKER, VICTIM = "attacker-key", "victim-key"
KEYS = {ATTACKER: "attacker", VICTIM: "victim"}
WORDS, WARM = 200, 4  # in a prompt; trials that do not count
TARGETS = {"across": 0.55, "within": 0.95}


async def first_token(host: Hosted, prompt: str, key: str) -> float:
    """Seconds until the first text of a stream of one token is there, on a connection that is
    new, but there already; reads it to its end."""
    body = {"model": host.model, "prompt": prompt, "max_tokens": 1, "stream": True}
    request = post("/v1/completions", body | {"temperature": 0, "ignore_eos": True}, key)
    async with await Connection.open(host.port) as connection:
        started, first = perf_counter(), 0.0
        async for part in connection.parts(request):
            if not first and b'"text"' in part:
                first = perf_counter() - started
        assert connection.status == 200
    assert first, "no text came"
    return first


async def measure(host: Hosted, trials: dict[str, int], size: int) -> list[dict[str, Any]]:
    """`trials` of each kind with a prompt that was sent, and as many with one that was not."""
    draw = random.Random(0)
    plan = [
        (kind, sent)
        for kind, count in trials.items()
        for sent in (True, False)
        for _ in range(count)
    ]
    draw.shuffle(plan)
    times: dict[tuple[str, bool], list[float]] = {}
    for at, (kind, sent) in enumerate([*plan[:WARM], *plan]):
        prompt = words(draw, size)
        await first_token(host, prompt, ATTACKER if kind == "within" else VICTIM)
        spent = await first_token(host, prompt if sent else words(draw, size), ATTACKER)
        if at >= WARM:
            times.setdefault((kind, sent), []).append(spent)
    return [row(kind, times[kind, True], times[kind, False]) for kind in trials]


def row(kind: str, sent: list[float], fresh: list[float]) -> dict[str, Any]:
    found = area(sent, fresh)
    return {
        "tenants": kind,
        "trials": len(sent) + len(fresh),
        "auc": round(found.value, 4),
        "auc_low": round(found.low, 4),
        "auc_high": round(found.high, 4),
        "sent_ms": round(1e3 * median(sent), 2),
        "fresh_ms": round(1e3 * median(fresh), 2),
        "target": TARGETS[kind],
    }


async def timing(quick: bool) -> list[dict[str, object]]:
    if quick:
        async with hosted("tiny", keys=KEYS) as host:
            return await measure(host, {"across": 10, "within": 10}, 40)
    async with hosted("smollm2-135m", keys=KEYS) as host:
        return await measure(host, {"across": 300, "within": 40}, WORDS)

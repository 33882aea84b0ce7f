"""Twelve generations: as calls through the OpenAI route, and as one program.

Four plans, the details of each, a choice among them, and an answer in three parts, each generation
of so many tokens and greedy. As calls they are sent by the `openai` client, one after the other, or
all that the data allows at once: the four branches beside each other, each of two calls, and then
the rest. Every run begins with nothing cached, and with a client that is not connected yet; calls
find cached what calls before them computed. All go through a proxy, with a delay and without.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from openai import AsyncOpenAI

from serving.connection import Connection, post
from serving.hosting import Hosted, delayed, hosted

BRANCHES, PARTS = 4, ("First", "Then", "Last")
CALLS = 2 * BRANCHES + 1 + len(PARTS)
DELAY = 0.010  # seconds each way
TASK = "A small town wants more people to go by bicycle. Write plans for the council.\n"
PICK = f"[1-{BRANCHES}]"

SOURCE = """
program council(task: str, size: int):
    "{task}"
    fork i in range(4) as ways:
        "Plan {i + 1}:"
        gen plan(max_tokens=size, ignore_eos=true)
        "\\nDetails:"
        gen details(max_tokens=size, ignore_eos=true)
    for i in range(4):
        "Plan {i + 1}:{ways[i].plan}\\nDetails:{ways[i].details}\\n"
    "The best plan is plan "
    gen pick: regex(r"[1-4]")
    ".\\nFirst:"
    gen first(max_tokens=size, ignore_eos=true)
    "\\nThen:"
    gen then(max_tokens=size, ignore_eos=true)
    "\\nLast:"
    gen last(max_tokens=size, ignore_eos=true)
    return ways.plan + ways.details + [pick, first, then, last]
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """A model's precision, and the tokens of each generation."""

    dtype: str
    tokens: int


SETTINGS = (Setting("float32", 16), Setting("int8", 16), Setting("int8", 4))

Texts = list[str]
Way = Callable[[int, str, int], Awaitable[Texts]]


async def as_program(port: int, model: str, tokens: int) -> Texts:
    body = {"source": SOURCE, "arguments": {"task": TASK, "size": tokens}}
    async with await Connection.open(port) as connection:
        answer = await connection.ask(post("/v1/programs", body))
    assert answer.status == 200, answer.body
    return answer.json()["result"]["value"]


async def as_calls(port: int, model: str, tokens: int, *, parallel: bool) -> Texts:
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client:

        async def call(prompt: str, most: int = tokens, **more: Any) -> str:
            answer = await client.completions.create(
                model=model, prompt=prompt, max_tokens=most, temperature=0, extra_body=more
            )
            return answer.choices[0].text

        async def branch(at: int) -> tuple[str, str]:
            start = f"{TASK}Plan {at + 1}:"
            plan = await call(start, ignore_eos=True)
            return plan, await call(f"{start}{plan}\nDetails:", ignore_eos=True)

        if parallel:
            ways = await asyncio.gather(*map(branch, range(BRANCHES)))
        else:
            ways = [await branch(at) for at in range(BRANCHES)]
        told = (f"Plan {i + 1}:{plan}\nDetails:{more}\n" for i, (plan, more) in enumerate(ways))
        text = f"{TASK}{''.join(told)}The best plan is plan "
        pick = await call(text, 2, regex=PICK)
        text += f"{pick}."
        parts: Texts = []
        for name in PARTS:
            text += f"\n{name}:"
            parts.append(await call(text, ignore_eos=True))
            text += parts[-1]
    plans, details = zip(*ways, strict=True)
    return [*plans, *details, pick, *parts]


async def in_turn(port: int, model: str, tokens: int) -> Texts:
    return await as_calls(port, model, tokens, parallel=False)


async def at_once(port: int, model: str, tokens: int) -> Texts:
    return await as_calls(port, model, tokens, parallel=True)


WAYS: dict[str, Way] = {"program": as_program, "in_turn": in_turn, "at_once": at_once}


async def measure(host: Hosted, setting: Setting, turns: int) -> list[dict[str, object]]:
    """A row for each delay: medians of seconds, and how many times as long calls take."""
    rows: list[dict[str, object]] = []
    async with AsyncExitStack() as stack:
        ports = {each: await stack.enter_async_context(delayed(host.port, each)) for each in DELAYS}
        spent: dict[tuple[float, str], list[float]] = {}
        texts: dict[str, Texts] = {}
        for turn in range(-1, turns):  # the first one warms up
            for delay, port in ports.items():
                for name, way in WAYS.items():
                    await host.forget()
                    started = perf_counter()
                    texts[name] = await way(port, host.model, setting.tokens)
                    if turn >= 0:
                        spent.setdefault((delay, name), []).append(perf_counter() - started)
    for delay in DELAYS:
        seconds = {name: median(spent[delay, name]) for name in WAYS}
        equal = {
            name: f"{sum(a == b for a, b in zip(texts[name], texts['program'], strict=True))}"
            f"/{CALLS}"
            for name in WAYS
        }
        rows.append(
            {
                "dtype": setting.dtype,
                "tokens": setting.tokens,
                "round_trip_ms": round(2e3 * delay),
                "seconds": {name: round(each, 4) for name, each in seconds.items()},
                "ratio_in_turn": round(seconds["in_turn"] / seconds["program"], 3),
                "ratio_at_once": round(seconds["at_once"] / seconds["program"], 3),
                "equal_texts": equal["in_turn"],
                "equal_texts_at_once": equal["at_once"],
                "all": {n: [round(t, 4) for t in spent[delay, n]] for n in WAYS},
            }
        )
    return rows


DELAYS = (0.0, DELAY)


async def calls(quick: bool) -> list[dict[str, object]]:
    """All settings; quickly, few tokens of a tiny model."""
    if quick:
        async with hosted("tiny") as host:
            return await measure(host, Setting("float32", 4), 1)
    rows: list[dict[str, object]] = []
    for dtype in dict.fromkeys(each.dtype for each in SETTINGS):
        async with hosted("smollm2-135m", dtype=dtype) as host:
            for setting in SETTINGS:
                if setting.dtype == dtype:
                    rows += await measure(host, setting, 7)
    return rows

"""What the clients of the soak ask for: programs of every kind, other dialects, and mistakes.

Texts are drawn from `random.Random`; nothing here sends anything.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from serving.connection import post, request
from serving.texts import words

CONTEXT = "Answer the questions about the town and its gardens as shortly as you can.\n"

GEN = """
program go_on(prompt: str, most: int):
    "{prompt}"
    gen text(max_tokens=most, temperature=0.8)
"""
FORK = """
program views(prompt: str, n: int = 3):
    "{prompt}"
    fork i in range(n) as views:
        "\\nView {i}:"
        gen view(max_tokens=12)
        fork 2 as ends:
            gen end(max_tokens=4, temperature=1.0)
    keep views[1]
    "\\nIn short:"
    gen short(max_tokens=8, stop="e")
    return {short, all: views.view}
"""
SELECT = """
program label(prompt: str):
    "{prompt}\\nIs it "
    select mood from ["good", "bad", "mixed"]
    score sure of " That is certain."
    "\\nStars: "
    select stars from [str(n) for n in range(1, 6)] (by="sum_logprob")
    return {mood, stars, sure: sure.mean}
"""
BEAMS = """
program search(prompt: str):
    "{prompt}"
    gen best(beams=4, max_tokens=12)
    fork gen line(n=3, temperature=0.9, max_tokens=6) as lines:
        score fit of " Well."
    return {best, best_line: argmax(lines.fit)}
"""
TYPED = """
program card(prompt: str):
    "{prompt}\\n"
    gen kind: choice(["house", "garden", "river"])
    gen open: bool
    gen code: regex(r"[A-Z]{2}-[0-9]{3}")
    gen data: json({"type": "object", "properties": {"age": {"type": "integer", "minimum": 1,
        "maximum": 99}, "wet": {"type": "boolean"}}, "required": ["age", "wet"],
        "additionalProperties": false}) (max_tokens=120)
    return {kind, open, code}
"""
PROGRAMS = {"gen": GEN, "fork": FORK, "select": SELECT, "beams": BEAMS, "typed": TYPED}
STORED = "views"
"""The name of `FORK` in each tenant's library."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and how it may be answered."""

    kind: str
    data: bytes
    stream: bool
    good: bool = True

    @property
    def cut(self) -> bool:
        """Whether the answer may be lost: the server closes with the body unread."""
        return self.kind == "bad: too large"

    def allowed(self, status: int) -> bool:
        """429 and 503 always are: the server says when it has no room."""
        return status in (429, 503) or (status in (200, 202) if self.good else 400 <= status < 500)


def ask_of(draw: random.Random, key: str, bad_share: float) -> Ask:
    """Any kind, equally often, but for mistakes, of which there are so many of all."""
    if draw.random() < bad_share:
        kind, make = draw.choice([*MISTAKES.items()])
        return Ask(f"bad: {kind}", make(key), stream=False, good=False)
    kind, make = draw.choice([*KINDS.items()])
    stream = draw.random() < 0.5
    path, body = make(draw)
    background = stream is False and kind == "background"
    more = {"background": True} if background else {"stream": stream}
    return Ask(kind, post(path, body | more, key), stream)


def prompt(draw: random.Random) -> str:
    """Half of them begin with what all share."""
    start = CONTEXT if draw.random() < 0.5 else ""
    return start + words(draw, draw.randint(2, 30))


Make = Callable[[random.Random], tuple[str, dict[str, Any]]]


def program(name: str) -> Make:
    def make(draw: random.Random) -> tuple[str, dict[str, Any]]:
        given: dict[str, Any] = {"prompt": prompt(draw)}
        if name == "gen":
            given["most"] = draw.randint(1, 48)
        return "/v1/programs", {"source": PROGRAMS[name], "arguments": given}

    return make


def library(draw: random.Random) -> tuple[str, dict[str, Any]]:
    return f"/v1/library/{STORED}/runs", {"arguments": {"prompt": prompt(draw), "n": 2}}


def batch(draw: random.Random) -> tuple[str, dict[str, Any]]:
    items = [{"prompt": CONTEXT + words(draw, 4), "most": 8} for _ in range(2)]
    return "/v1/programs", {"source": GEN, "batch": items, "seed": draw.randrange(100)}


def chat(draw: random.Random) -> tuple[str, dict[str, Any]]:
    turns = [{"role": "system", "content": CONTEXT}, {"role": "user", "content": prompt(draw)}]
    return "/v1/chat/completions", {"model": "tiny", "messages": turns, "max_tokens": 16}


def completion(draw: random.Random) -> tuple[str, dict[str, Any]]:
    body = {"model": "tiny", "prompt": prompt(draw), "max_tokens": 12, "n": 2, "temperature": 0.7}
    return "/v1/completions", body


def generate(draw: random.Random) -> tuple[str, dict[str, Any]]:
    return "/generate", {"text": prompt(draw), "sampling_params": {"max_new_tokens": 12}}


KINDS: dict[str, Make] = {
    **{name: program(name) for name in PROGRAMS},
    "library": library,
    "batch": batch,
    "background": program("gen"),
    "chat": chat,
    "completion": completion,
    "generate": generate,
}

MISTAKES: dict[str, Callable[[str], bytes]] = {
    "no JSON": lambda key: post("/v1/programs", b'{"source": ', key),
    "no program": lambda key: post("/v1/programs", {"source": "program p(:\n"}, key),
    "unknown setting": lambda key: post(
        "/v1/programs", {"source": 'program p():\n    "a"\n    gen x(max_token=3)\n'}, key
    ),
    "missing argument": lambda key: post("/v1/programs", {"source": GEN, "arguments": {}}, key),
    "too many samples": lambda key: post(
        "/v1/completions", {"model": "tiny", "prompt": "a", "n": 1000}, key
    ),
    "unknown field": lambda key: post("/generate", {"text": "a", "samples": 3}, key),
    "wrong key": lambda key: post("/v1/programs", {"source": GEN}, "nobody"),
    "no such route": lambda key: request("GET", "/v1/nothing", b"", key),
    "no such run": lambda key: request("GET", "/v1/programs/prog_none", b"", key),
    "too large": lambda key: post("/v1/programs", b" " * ((1 << 20) + 1), key),
}

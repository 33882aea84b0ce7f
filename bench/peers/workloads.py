"""What every side does: prompts as token ids, what to draw behind them, and what ours has to reach.

Plain data, the same for everybody. Knows no peer and no model; whoever asks brings the encoding.

A workload is made of rounds, each a batch of requests that wait for nobody. A request appends its
ids to all that one of an earlier round read and drew, or to nothing, and draws. So a chat is a
request a round, and a tree of branches has a batch a round. Draws are greedy and of a fixed length,
the ends of a text drawn like any other token, unless it is said otherwise.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any, Literal

Encode = Callable[[str, bool], list[int]]
"""A text, and whether it opens a context, to its ids."""

WORDS = (
    "a gardener planted twelve pear trees along the southern wall and wrote down when each of them "
    "came into blossom how many bees she counted and what the weather did in the week before"
).split()
TOPICS = "tea rain chess bread rivers clocks maps ferns owls glass salt wool kites ink drums bees"
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 16},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "city": {"enum": ["Oslo", "Lima", "Cairo", "Kyoto"]},
        "likes": {
            "type": "array",
            "items": {"enum": ["tea", "chess", "rain", "bread"]},
            "minItems": 2,
            "maxItems": 2,
        },
        "member": {"type": "boolean"},
    },
    "required": ["name", "age", "city", "likes", "member"],
    "additionalProperties": False,
}
CONTEXT, SAMPLED, PROMPT = 940, 700, 330  # tokens
BEAMS, SAMPLES = 8, 16
PLANS, DETAILS = 4, 3  # branches of a tree, and of each of them
TEMPERATURE = 0.8  # of samples

Kind = Literal["draw", "sample", "beams", "score", "steps", "json"]


@dataclass(frozen=True, slots=True)
class Request:
    text: str
    ids: tuple[int, ...]  # of the text, behind those of `parent`
    parent: int | None = None  # its number, counted over all rounds
    options: tuple[str, ...] = ()  # to score, in a select
    option_ids: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    title: str
    rounds: tuple[tuple[Request, ...], ...]
    tokens: int  # that each request draws; at most, of JSON
    kind: Kind = "draw"
    width: int = 1  # samples or beams of each request
    schema: Mapping[str, Any] | None = None
    unit: str = "tokens"  # what its speed is told in
    turns: int = 3  # measured runs of each side
    slow: Mapping[str, int] = field(default_factory=dict)
    """Peers that take minutes: to the number of requests of a first round they do; scaled up."""
    targets: Mapping[str, float] = field(default_factory=dict)
    """How many times as fast as a peer ours has to be, as `ours/peer`."""

    @property
    def requests(self) -> list[Request]:
        return list(chain(*self.rounds))

    @property
    def count(self) -> int:
        """Units of work; 0 where only a run tells."""
        if self.kind == "json":
            return len(self.requests)
        if self.kind in ("score", "steps"):
            return sum(len(request.options) for request in self.requests)
        return len(self.requests) * self.tokens * (self.width if self.kind == "sample" else 1)

    def part(self, requests: int) -> "Workload":
        """The first so many requests, of one round."""
        (only,) = self.rounds
        return replace(self, rounds=(only[:requests],))

    def plain(self) -> dict[str, Any]:
        """As JSON carries it."""
        return asdict(self)


def workloads(encode: Encode, quick: bool = False) -> list[Workload]:
    """All of them; the quick ones are an eighth to a quarter of the work."""
    return [make(Writer(encode, seed), quick) for seed, make in enumerate(_MAKERS)]


class Writer:
    """Writes texts by a seed."""

    def __init__(self, encode: Encode, seed: int) -> None:
        self._encode, self._draw = encode, random.Random(seed)

    def words(self, count: int) -> str:
        return " ".join(self._draw.choices(WORDS, k=count))

    def text(self, tokens: int) -> str:
        """Words of about that many tokens."""
        words = self.words(tokens).split()
        low, high = 1, len(words)
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(self._encode(" ".join(words[:middle]), True)) <= tokens
            low, high = (middle, high) if fits else (low, middle - 1)
        return " ".join(words[:low])

    def opening(self, text: str) -> Request:
        return Request(text, tuple(self._encode(text, True)))

    def behind(self, parent: int, text: str) -> Request:
        return Request(text, tuple(self._encode(text, False)), parent)

    def asked(self, text: str, options: Sequence[str]) -> Request:
        ids = tuple(tuple(self._encode(option, False)) for option in options)
        return Request(text, tuple(self._encode(text, True)), None, tuple(options), ids)


def _stream(write: Writer, quick: bool) -> Workload:
    prompt = "Write about the rivers of the world, one after the other, and what lives in them: "
    return Workload(
        "stream",
        "one stream",
        ((write.opening(prompt),),),
        tokens=32 if quick else 128,
        turns=5,
        targets={"int8/llama.cpp": 1.0},
    )


def _plain(write: Writer, quick: bool) -> Workload:
    prompts = tuple(write.opening(write.text(20)) for _ in range(32))
    return Workload(
        "plain",
        "32 prompts",
        (prompts,),
        tokens=8 if quick else 64,
        targets={"float32/vllm": 1.3, "int8/vllm": 3.0},
    )


def _few_shot(write: Writer, quick: bool) -> Workload:
    context = write.text(CONTEXT)
    asked = (f"\nQ: what about {write.words(6)}?\nA:" for _ in range(16 if quick else 64))
    return Workload(
        "few-shot",
        f"few-shot: questions on a shared context of {CONTEXT} tokens",
        (tuple(write.opening(context + each) for each in asked),),
        tokens=8 if quick else 32,
        slow={"transformers": 8, "continuous": 4},
        targets={"float32/vllm": 2.0, "int8/vllm": 5.0},
    )


def _samples(write: Writer, quick: bool) -> Workload:
    return Workload(
        "samples",
        f"{SAMPLES} samples of a prompt of {SAMPLED} tokens",
        ((write.opening(write.text(SAMPLED)),),),
        tokens=8 if quick else 48,
        kind="sample",
        width=SAMPLES,
        targets={"float32/vllm": 2.5},
    )


def _beams(write: Writer, quick: bool) -> Workload:
    prompts = tuple(write.opening(write.text(PROMPT)) for _ in range(1 if quick else 4))
    return Workload(
        "beams",
        f"beam search of width {BEAMS} behind {PROMPT} tokens",
        (prompts,),
        tokens=8 if quick else 32,
        kind="beams",
        width=BEAMS,
        turns=1,
        slow={"vllm": 1, "transformers": 2},
        targets={"float32/vllm": 30.0},
    )


def _select(write: Writer, quick: bool) -> Workload:
    context = write.text(CONTEXT)

    def asked(number: int) -> Request:
        options = [f" {write.words(3)}, {letter}" for letter in "abcd"]
        question = f"What did number {number} write about {write.words(4)}?"
        return write.asked(f"{context}\nQuestion: {question}\nAnswer:", options)

    return Workload(
        "select",
        f"select: questions of 4 options on a shared context of {CONTEXT} tokens",
        (tuple(asked(at + 1) for at in range(4 if quick else 48)),),
        tokens=0,
        kind="score",
        unit="options",
        turns=1,
        slow={"vllm": 2},
        targets={"float32/vllm": 50.0},
    )


def _select_steps(write: Writer, quick: bool) -> Workload:
    """The same for a peer that scores a token of an option at a time, out of its cache."""
    work = _select(write, quick)
    return replace(
        work,
        name="select-steps",
        title=f"{work.title}, a request for each token",
        kind="steps",
        slow={},
        targets={},
    )


def _tree(write: Writer, quick: bool) -> Workload:
    """Four programs plan in four branches, detail each plan in three, keep the first and end."""
    programs = 1 if quick else 4
    contexts = [f"{write.text(PROMPT)}\n" for _ in range(programs)]
    plans = [write.opening(f"{each}Plan {at + 1}:") for each in contexts for at in range(PLANS)]
    details = [
        write.behind(plan, f"\nDetail {at + 1}:")
        for plan in range(len(plans))
        for at in range(DETAILS)
    ]
    first = [len(plans) + program * PLANS * DETAILS for program in range(programs)]
    ends = [write.behind(parent, "\nIn short:") for parent in first]
    return Workload(
        "tree",
        f"fork trees: {programs} programs, {PLANS} × {DETAILS} branches",
        (tuple(plans), tuple(details), tuple(ends)),
        tokens=8 if quick else 24,
        targets={"float32/vllm": 1.5, "int8/vllm": 3.5},
    )


def _chat(write: Writer, quick: bool) -> Workload:
    """Conversations behind one system prompt, in lockstep."""
    talks, turns = (2, 2) if quick else (8, 4)
    system = write.text(200)
    rounds: list[tuple[Request, ...]] = [
        tuple(
            write.opening(f"{system}\nUser: tell me about {write.words(20)}.\nAssistant:")
            for _ in range(talks)
        )
    ]
    for turn in range(1, turns):
        before = (turn - 1) * talks
        rounds.append(
            tuple(
                write.behind(before + at, f"\nUser: and {write.words(20)}?\nAssistant:")
                for at in range(talks)
            )
        )
    return Workload(
        "chat",
        f"chat: {talks} conversations of {turns} turns",
        tuple(rounds),
        tokens=8 if quick else 32,
        targets={"float32/vllm": 1.5},
    )


def _json(write: Writer, quick: bool) -> Workload:
    topics = TOPICS.split()[: 4 if quick else 16]
    asked = (f"A person who likes {topic}, as one JSON object: " for topic in topics)
    return Workload(
        "json",
        f"JSON: {len(topics)} objects of a schema",
        (tuple(map(write.opening, asked)),),
        tokens=96,
        kind="json",
        schema=PERSON,
        unit="objects",
        targets={"float32/vllm": 1.5},
    )


_MAKERS = (
    _stream,
    _plain,
    _few_shot,
    _samples,
    _beams,
    _select,
    _select_steps,
    _tree,
    _chat,
    _json,
)

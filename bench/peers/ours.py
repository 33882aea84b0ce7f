"""Our side: every workload as a program that a user would write, on an engine with nothing cached.

Knows the workloads and ramet; no peer.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from time import perf_counter
from typing import Any

from search import ASK, SAMPLE, SEARCH
from workloads import BEAMS, DETAILS, PLANS, SAMPLES, Workload

import ramet
from ramet.program import Program
from ramet.runtime import Engine, EngineConfig
from ramet.runtime.models import Model, load_model
from ramet.runtime.result import Finished, FinishedState
from ramet.runtime.tokenizer import Tokenizer
from ramet.runtime.values import SamplesInfo

Runs = tuple[Program[..., Any], list[dict[str, Any]]]
Make = Callable[[Workload], Runs]

GO = ramet.loads("""
program go(prompt: str, tokens: int):
    "{prompt}"
    gen text(max_tokens=tokens, ignore_eos=true)
""")

CHAT = ramet.loads("""
program chat(opening: str, turns: list, tokens: int):
    "{opening}"
    gen reply(max_tokens=tokens, ignore_eos=true)
    for turn in turns:
        "{turn}"
        gen reply(max_tokens=tokens, ignore_eos=true)
""")

# The longest goes on here, and the first on the other side: the work is the same.
TREE = ramet.loads("""
program tree(context: str, plans: list, details: list, tokens: int):
    "{context}"
    fork plan in plans as planned:
        "{plan}"
        gen text(max_tokens=tokens, ignore_eos=true)
        fork detail in details as detailed:
            "{detail}"
            gen text(max_tokens=tokens, ignore_eos=true)
        keep detailed[argmax([len(each) for each in detailed.text])]
    keep planned[argmax([len(each) for each in planned.text])]
    "\\nIn short:"
    gen text(max_tokens=tokens, ignore_eos=true)
""")


class Ours:
    """One model and one engine for all runs; its memory is warm after the first."""

    def __init__(
        self, dtype: str, blocks: int = 1600, wrap: Callable[[Model], Model] = lambda model: model
    ) -> None:
        config = EngineConfig(dtype=dtype, num_blocks=blocks)
        model, directory = load_model("smollm2-135m", dtype=dtype, cache=config.models)
        self.directory = directory
        self.tokenizer = Tokenizer.load(directory, eos_ids=model.shape.eos)
        self._engine = Engine.of(wrap(model), self.tokenizer, config)

    def run(self, work: Workload) -> tuple[float, list[str]]:
        """Seconds, and the texts that were generated, or the options that were chosen.

        Nothing is cached from before. A run that drew more or less than was asked for raises.
        """
        program, items = PROGRAMS[work.name](work)
        self._engine.core.pool.clear()
        started = perf_counter()
        outcomes = self._engine.run_batch(program, items)
        seconds = perf_counter() - started
        done = [_finished(outcome) for outcome in outcomes]
        if work.kind in ("draw", "sample"):
            drawn = sum(each.usage.generated for each in done)
            assert drawn == work.count, f"{work.name}: {drawn} tokens instead of {work.count}"
        return seconds, list(chain.from_iterable(_texts(each.root) for each in done))


def _finished(outcome: Finished | Exception) -> Finished:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _texts(state: FinishedState) -> Iterator[str]:
    """Of one state and its branches: what was drawn, chosen, sampled or found by a search."""
    for each in state.walk():
        yield from (span.text for span in each.written if span.generated)
        for info in each.infos.values():
            if isinstance(info, SamplesInfo):
                yield from (sample.text for sample in info.samples)


def _each(program: Program[..., Any], **more: Any) -> Make:
    """That program once for each request, with its text as the prompt."""
    return lambda work: (
        program,
        [{"prompt": r.text, "tokens": work.tokens, **more} for r in work.requests],
    )


def _asked(work: Workload) -> Runs:
    """All questions on one context, as one program."""
    context = work.requests[0].text.rpartition("\nQuestion: ")[0]
    questions = [
        {
            "question": request.text.removeprefix(f"{context}\nQuestion: ").removesuffix(
                "\nAnswer:"
            ),
            "options": list(request.options),
        }
        for request in work.requests
    ]
    return ASK, [{"context": context, "questions": questions}]


def _trees(work: Workload) -> Runs:
    plans, details, _ = work.rounds
    items: list[dict[str, Any]] = []
    for at in range(0, len(plans), PLANS):
        texts = [request.text for request in plans[at : at + PLANS]]
        context = texts[0].rpartition("\n")[0] + "\n"
        items.append(
            {
                "context": context,
                "plans": [text.removeprefix(context) for text in texts],
                "details": [request.text for request in details[:DETAILS]],
                "tokens": work.tokens,
            }
        )
    return TREE, items


def _chats(work: Workload) -> Runs:
    first, *later = work.rounds
    return CHAT, [
        {
            "opening": opening.text,
            "turns": [turns[at].text for turns in later],
            "tokens": work.tokens,
        }
        for at, opening in enumerate(first)
    ]


def _objects(work: Workload) -> Runs:
    body = ramet.gen("object", json_schema=dict(work.schema or {}), max_tokens=work.tokens)

    @ramet.program
    def write(s: ramet.State, prompt: str) -> None:
        s += prompt + body

    return write, [{"prompt": request.text} for request in work.requests]


PROGRAMS: dict[str, Make] = {
    "stream": _each(GO),
    "plain": _each(GO),
    "few-shot": _each(GO),
    "samples": _each(SAMPLE, count=SAMPLES),
    "beams": _each(SEARCH, width=BEAMS),
    "select": _asked,
    "select-steps": _asked,
    "tree": _trees,
    "chat": _chats,
    "json": _objects,
}

"""Greedy texts do not depend on any setting: the same over the whole lattice of them.

On the toy model, whose next token is a hash of what is read from the cache, the text is known
exactly; on a tiny Llama it is transformers'. No difference is excused: the prompts were chosen so
that the two best logits are never close.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product
from typing import Any

import pytest
import torch

from ramet.kernels import Step, units
from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import EngineError
from ramet.runtime.models import Model, load_model
from ramet.runtime.sequence import Sequence as Context
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyModel, toy_text
from tests.runtime.greedy import Tokens, by_transformers, drain, submit
from tests.runtime.models.tiny import VOCAB, saved, transformers_model

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 24


@dataclass(frozen=True)
class Setting:
    """A point of the lattice."""

    block: int
    chunk: int | None
    sharing: bool
    small: bool  # a pool that holds the largest request and little more
    together: int  # requests at once
    forked: bool  # from a computed prefix, or each prompted on its own

    def __str__(self) -> str:
        words = [f"block{self.block}", f"chunk{self.chunk}", f"{self.together}together"]
        words += [name for name in ("sharing", "small", "forked") if getattr(self, name)]
        return "-".join(words)


def lattice() -> Iterator[Setting]:
    """All points; alone in a small pool nobody can be preempted, so that is none."""
    flags = (False, True)
    for values in product((1, 8, 16, 32), (16, 64, None), flags, flags, (1, 7, 32), flags):
        setting = Setting(*values)
        if not (setting.small and setting.together == 1):
            yield setting


def pairs(setting: Setting) -> set[tuple[Any, ...]]:
    return set(combinations(vars(setting).items(), 2))


def pairwise() -> list[Setting]:
    """Few points in which every two values that can meet do: greedily, most new pairs first."""
    points = {point: pairs(point) for point in lattice()}
    missing = set().union(*points.values())
    chosen: list[Setting] = []
    while missing:
        best = max(points, key=lambda point: len(points[point] & missing))
        missing -= points[best]
        chosen.append(best)
    return chosen


PLAIN = Setting(block=16, chunk=None, sharing=False, small=False, together=1, forked=False)
EVERYDAY = [PLAIN, *(point for point in pairwise() if point != PLAIN)]
REST = [point for point in lattice() if point not in EVERYDAY]


# -- the requests


@dataclass(frozen=True)
class Request:
    """A prompt that may be forked off a prefix."""

    prefix: tuple[int, ...]
    tail: tuple[int, ...]

    @property
    def prompt(self) -> Tokens:
        return [*self.prefix, *self.tail]


def requests() -> list[Request]:
    """32 of them over five prefixes; some prompts twice, some the beginning of others."""
    rng = random.Random(SEED)
    trunk = rng.choices(range(VOCAB), k=100)
    prefixes = [trunk, trunk[:31], trunk[:32], rng.choices(range(VOCAB), k=17), [3]]
    tails = [rng.choices(range(VOCAB), k=length) for length in (1, 2, 7, 15, 16, 17)]
    made = [Request(tuple(prefix), tuple(tail)) for prefix in prefixes for tail in tails]
    made += [Request(tuple(trunk), ()), made[3]]
    return rng.sample(made, len(made))


SEED = 29  # the closest two logits of all texts are 0.0017 apart
REQUESTS = requests()
LONGEST = max(len(request.prompt) for request in REQUESTS) + COUNT


@dataclass
class Outcome:
    texts: list[Tokens]
    core: EngineCore
    copied: int


def core_of(model: Model, tokenizer: Tokenizer, setting: Setting) -> EngineCore:
    """With blocks that hold nonsense until they are written."""
    needed = -(-LONGEST // setting.block) + 1
    config = EngineConfig(
        block_size=setting.block,
        prefill_chunk=setting.chunk,
        sharing=setting.sharing,
        num_blocks=needed + 1 if setting.small else 40 * needed,
    )
    core = EngineCore(model, tokenizer, config)
    kept = core.runner.backend.cache
    poison = 12345.0 if isinstance(model, ToyModel) else float("nan")
    kept.data[:, :, :, : kept.null_slot] = poison
    return core


def run(core: EngineCore, setting: Setting) -> Outcome:
    """All requests, `together` at a time."""
    audit = isinstance(core.model, ToyModel)
    texts: list[Tokens] = []
    copied = 0
    for start in range(0, len(REQUESTS), setting.together):
        wave = REQUESTS[start : start + setting.together]
        parents = computed(core, wave, audit) if setting.forked else {}
        tasks = [submit(core, context_of(core, request, parents), COUNT) for request in wave]
        texts += drain(core, tasks, audit=audit)
        copied += sum(task.usage.copied_blocks for task in tasks)
        for context in [*parents.values(), *(task.sequence for task in tasks)]:
            core.close(context)
    core.audit()
    assert core.pool.available == core.pool.num_blocks, "all blocks came back"
    return Outcome(texts, core, copied)


def computed(
    core: EngineCore, wave: Sequence[Request], audit: bool
) -> dict[tuple[int, ...], Context]:
    """Every prefix of the requests, computed once; they stay open beside their forks."""
    parents = {request.prefix: core.open(request.prefix) for request in wave}
    for parent in parents.values():
        core.score(parent, len(parent.tokens), on_done=lambda task: None)
    drain(core, (), audit=audit)
    return parents


def context_of(
    core: EngineCore, request: Request, parents: dict[tuple[int, ...], Context]
) -> Context:
    if not parents:
        return core.open(request.prompt)
    child = core.fork(parents[request.prefix])
    child.tokens.extend(request.tail)
    return child


# -- the models, and what they should say


@dataclass(frozen=True)
class Subject:
    model: Model
    expected: list[Tokens]


@cache
def toy() -> Subject:
    return Subject(ToyModel(), [toy_text(request.prompt, COUNT) for request in REQUESTS])


@cache
def tiny(family: str) -> Subject:
    model = load_model(str(saved(family)), dtype="float32", cache=saved(family))[0]
    module = transformers_model(saved(family))
    prompts = [request.prompt for request in REQUESTS]
    expected = by_transformers(module, prompts, COUNT)
    for prompt, text in zip(prompts, expected, strict=True):
        with torch.inference_mode():
            best = module(torch.tensor([prompt + text])).logits[0].topk(2).values
        gaps = (best[:, 0] - best[:, 1])[len(prompt) - 1 : -1]
        assert gaps.min() > 1e-3, "another seed gives prompts without ties"
    return Subject(model, expected)


SUBJECTS = {"toy": toy, "llama": lambda: tiny("llama"), "mistral": lambda: tiny("mistral")}


def check(subject: Subject, tokenizer: Tokenizer, setting: Setting) -> None:
    outcome = run(core_of(subject.model, tokenizer, setting), setting)
    assert outcome.texts == subject.expected
    stats = outcome.core.stats()
    if setting.small:
        assert stats.preemptions > 0, "the pool was not small enough"
    if setting.sharing:
        assert stats.cache.hits > 0
    if not setting.sharing and not setting.forked:
        assert stats.cache.hits == outcome.copied == 0


@pytest.mark.parametrize("setting", EVERYDAY, ids=str)
@pytest.mark.parametrize("subject", ["toy", "llama"])
def test_pairwise(subject: str, setting: Setting, byte_tokenizer: Tokenizer) -> None:
    check(SUBJECTS[subject](), byte_tokenizer, setting)


@pytest.mark.slow
@pytest.mark.parametrize("setting", REST, ids=str)
@pytest.mark.parametrize("subject", ["toy", "llama"])
def test_the_rest_of_the_lattice(subject: str, setting: Setting, byte_tokenizer: Tokenizer) -> None:
    check(SUBJECTS[subject](), byte_tokenizer, setting)


@pytest.mark.slow
@pytest.mark.parametrize("setting", EVERYDAY + REST, ids=str)
def test_windows(setting: Setting, byte_tokenizer: Tokenizer) -> None:
    check(SUBJECTS["mistral"](), byte_tokenizer, setting)


@pytest.mark.parametrize("setting", [point for point in EVERYDAY if point.together == 32], ids=str)
def test_shared_blocks_are_read_once_in_it(
    setting: Setting, byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared blocks take the path of shared runs in the lattice, and others do not."""
    plain, cuts = units.cut, []

    def seen(*arguments: Any, **settings: Any) -> units.Cut:
        cuts.append(plain(*arguments, **settings))
        return cuts[-1]

    monkeypatch.setattr(units, "cut", seen)
    check(SUBJECTS["llama"](), byte_tokenizer, setting)
    assert cuts
    passes = sum(len(cut.passes) for cut in cuts)
    if not (setting.sharing or setting.forked):
        assert not passes
    elif not setting.small:
        assert passes


def test_pairwise_is_complete_and_small() -> None:
    met = set().union(*map(pairs, EVERYDAY))
    assert met == set().union(*map(pairs, lattice()))
    assert len(EVERYDAY) <= 20
    assert len(EVERYDAY) + len(REST) == 4 * 3 * 2 * 5 * 2


# -- proof of power: with one thing wrong, the comparison fails

FORKED = replace(PLAIN, together=32, forked=True)


def broken(subject: str, setting: Setting, tokenizer: Tokenizer) -> EngineCore:
    """A core to break something in; unbroken it gives the right texts."""
    check(SUBJECTS[subject](), tokenizer, setting)
    return core_of(SUBJECTS[subject]().model, tokenizer, setting)


def assert_wrong(subject: str, core: EngineCore, setting: Setting) -> None:
    try:
        outcome = run(core, setting)
    except EngineError:
        return  # NaN was read and noticed
    assert outcome.texts != SUBJECTS[subject]().expected


@pytest.mark.parametrize("setting", [replace(PLAIN, together=32), FORKED], ids=str)
@pytest.mark.parametrize("subject", ["toy", "llama"])
def test_two_swapped_blocks_are_seen(
    subject: str, setting: Setting, byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one step the first blocks of two sequences are each other's."""
    core = broken(subject, setting, byte_tokenizer)
    backend = core.runner.backend
    plan, swaps = backend.plan, []

    def swapping(step: Step) -> object:
        tables = step.block_tables.clone()
        others = (tables[:, 0] != tables[0, 0]).nonzero()
        if core.stats().steps >= 8 and not swaps and len(others):
            other = int(others[0])
            tables[[0, other], 0] = tables[[other, 0], 0]
            swaps.append(other)
        return plan(replace(step, block_tables=tables))

    monkeypatch.setattr(backend, "plan", swapping)
    assert_wrong(subject, core, setting)
    assert len(swaps) == 1


@pytest.mark.parametrize("subject", ["toy", "llama"])
def test_a_skipped_copy_is_seen(
    subject: str, byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = broken(subject, FORKED, byte_tokenizer)
    skipped: list[object] = []
    monkeypatch.setattr(core.runner.backend, "copy_blocks", skipped.extend)
    assert_wrong(subject, core, FORKED)
    assert skipped


def test_order_is_seen_by_the_toy(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention over rotated keys does not care in which order it reads them; the toy does."""
    setting = replace(PLAIN, block=8)
    core = broken("toy", setting, byte_tokenizer)
    backend = core.runner.backend
    plan = backend.plan

    def swapping(step: Step) -> object:
        tables = step.block_tables.clone()
        if core.stats().steps == 40 and int(step.contexts[0]) > 16:
            tables[0, [0, 1]] = tables[0, [1, 0]]
        return plan(replace(step, block_tables=tables))

    monkeypatch.setattr(backend, "plan", swapping)
    assert_wrong("toy", core, setting)

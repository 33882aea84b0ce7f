"""Beam search finds what `transformers.generate(num_beams=…)` finds: the same hypotheses in the
same order, scores within 1e-4."""

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import ramet
from ramet.params import SamplingParams
from ramet.runtime import Engine, EngineConfig
from ramet.runtime.tokenizer import Piece, Tokenizer
from tests.runtime.beam_oracle import (
    STOPS,
    WITHIN,
    Oracle,
    by_transformers,
    encoded,
    random_prompts,
    searched,
    tiny,
)
from tests.runtime.conftest import all_back

pytestmark = pytest.mark.usefixtures("one_thread")


def settings(**fields: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 14, "stop_tokens": STOPS} | fields)


def named(params: object) -> str | None:
    """A test's name."""
    if not isinstance(params, SamplingParams):
        return None
    fields = params.to_dict() | {"stop_tokens": len(params.stop_tokens)}
    return ",".join(f"{name}={value}" for name, value in fields.items())


EVERYDAY = [
    settings(beams=2, stop_tokens=()),
    settings(beams=2, stop_tokens=STOPS[:1], early_stopping="never"),
    settings(beams=4),
    settings(beams=4, length_penalty=0.0),
    settings(beams=4, length_penalty=2.0, early_stopping="never"),
    settings(beams=4, length_penalty=0.5, early_stopping=True),
    settings(beams=4, length_penalty=-0.5, min_tokens=6),
    settings(beams=4, length_penalty=2.0, ignore_eos=True, stop_tokens=()),
    settings(beams=4, repetition_penalty=1.3),
    settings(beams=8, length_penalty=0.0, early_stopping="never"),
    settings(beams=8, stop_tokens=STOPS[:3]),
]


@pytest.mark.parametrize("params", EVERYDAY, ids=named)
def test_a_tiny_model(
    params: SamplingParams,
    byte_tokenizer: Tokenizer,
    record_property: Callable[[str, object], None],
) -> None:
    model, module = tiny("llama")
    oracle = Oracle(module)
    oracle.check(
        Engine.of(model, byte_tokenizer, EngineConfig(num_blocks=2_000)),
        random_prompts(20),
        params,
        wanted=(1, 2),
    )
    record_property("excused", oracle.excused)
    assert oracle.excused <= 1


@pytest.mark.parametrize("family", ["mistral", "qwen3", "gpt2"])
def test_other_families(family: str, byte_tokenizer: Tokenizer) -> None:
    model, module = tiny(family)
    engine = Engine.of(model, byte_tokenizer, EngineConfig(num_blocks=2_000))
    Oracle(module).check(engine, random_prompts(6, (17,)), settings(beams=4))


@pytest.mark.parametrize(
    ("config", "least"),
    [
        ({"block_size": 1, "num_blocks": 400}, 10),  # a search takes up to 95
        ({"block_size": 4, "num_blocks": 60}, 10),  # up to 30
        ({"block_size": 4, "num_blocks": 40, "max_sequences": 3}, 0),  # one after the other
        ({"block_size": 32, "prefill_chunk": 5}, 0),
        ({"block_size": 8, "step_tokens": 7}, 0),
        ({"block_size": 8, "sharing": False}, 0),
    ],
    ids=str,
)
def test_whatever_the_blocks_and_the_steps(
    config: Any, least: int, byte_tokenizer: Tokenizer
) -> None:
    """`least` preemptions."""
    model, module = tiny("llama")
    engine = Engine.of(model, byte_tokenizer, EngineConfig(**{"num_blocks": 2_000} | config))
    prompts = random_prompts(8, (17,)) + random_prompts(8, (38,))
    Oracle(module).check(engine, prompts, settings(beams=4, early_stopping="never"))
    assert engine.stats().preemptions >= least


@ramet.program
def others(s: ramet.State, prompt: str) -> None:
    """Ordinary requests: a text, a drawn one, a choice."""
    s += prompt
    branches = s.fork(3)
    branches[0] += ramet.gen("x", max_tokens=9)
    branches[1] += ramet.gen("x", max_tokens=5, temperature=1.0)
    branches[2] += ramet.select("x", ["a", "bc", "d"])


@pytest.mark.parametrize(
    "config", [{"block_size": 3}, {"step_tokens": 9, "num_blocks": 90}], ids=str
)
def test_in_the_company_of_others(config: Any, byte_tokenizer: Tokenizer) -> None:
    """Which come one after the other, with the same prompts."""
    model, module = tiny("llama")
    engine = Engine.of(model, byte_tokenizer, EngineConfig(**{"num_blocks": 2_000} | config))
    prompts = random_prompts(6, (17, 38))
    params = settings(beams=4, early_stopping="never")
    runs = []
    for prompt in prompts:
        fields = params.to_dict() | {"n": 4}
        runs.append(engine.start(searched, {"prompt": prompt, "settings": fields}))
        company = engine.start(others, {"prompt": prompt})
        engine.round([*runs, company])
        runs.append(company)
    while not all(one.done for one in runs):
        engine.round([one for one in runs if not one.done])
        engine.audit()
    assert all_back(engine.core)
    eos = sorted({*engine.core.eos, *params.stop_tokens})
    tokens = [tuple(encoded(engine, prompt)) for prompt in prompts]
    expected = by_transformers(module, tokens, params, eos)
    for one, theirs in zip(runs[::2], expected, strict=True):
        info: Any = one.result().info("best")
        assert info.tokens == [each.tokens for each in theirs]
        assert info.score == pytest.approx([each.score for each in theirs], abs=WITHIN)


PRODUCT = [
    settings(beams=beams, length_penalty=penalty, early_stopping=early, **ends)
    for beams, penalty, early, ends in itertools.product(
        (2, 4, 8),
        (0.0, 0.5, 1.0, 2.0),
        (False, True, "never"),
        ({"stop_tokens": (), "ignore_eos": True}, {}, {"min_tokens": 5}),
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("params", PRODUCT, ids=named)
def test_the_full_product(params: SamplingParams, byte_tokenizer: Tokenizer) -> None:
    """200 prompts of five lengths around the edges of blocks."""
    model, module = tiny("llama")
    oracle = Oracle(module)
    engine = Engine.of(model, byte_tokenizer, EngineConfig(num_blocks=2_000))
    oracle.check(engine, random_prompts(200, (1, 15, 16, 17, 40)), params, wanted=(1, 2))
    assert oracle.excused <= 3


# -- SmolLM2

PROMPTS = (
    "My favourite food is",  # transformers runs those of one length together
    "Two plus two is",
    "She opened the door",
    "Water boils at a",
    "Cats like to eat",
    "They went to the",
    "The capital of France is",
    "Paris is the capital of",
    "Rome is the capital of",
    "The sun rises in the",
    "The best way to learn is to read",
    "Once upon a time there was a king",
    "To be or not to be, that",
    "In the morning he drinks a cup",
    "A triangle has three sides and three",
    "Yes",
    "No",
    "I",
    "Question: Who wrote Hamlet?\nAnswer: It",
    "def add(a, b):\n    return",
)


def smollm2_settings(**fields: Any) -> dict[str, Any]:
    return {"beams": 4, "length_penalty": 1.0, "early_stopping": False, "ends": True} | fields


SMOLLM2 = [
    smollm2_settings(beams=beams, length_penalty=penalty, early_stopping=early, **ends)
    for beams, penalty, early, ends in itertools.product(
        (2, 4, 8),
        (0.0, 0.5, 1.0, 2.0),
        (False, True, "never"),
        ({"ends": False}, {}, {"min_tokens": 4}),
    )
] + [smollm2_settings(beams=1, **ends) for ends in ({"ends": False}, {}, {"min_tokens": 4})]
SAMPLE = [
    smollm2_settings(beams=1),
    smollm2_settings(beams=4, length_penalty=0.5, early_stopping="never", min_tokens=4),
    smollm2_settings(beams=8, length_penalty=0.0),
]


def check_smollm2(
    folder: Path, model: Any, prompts: Sequence[str], settings: dict[str, Any]
) -> Oracle:
    """Sentences and lines end texts, so that some of eight tokens do."""
    oracle = Oracle(module_of(folder))
    tokenizer = Tokenizer.load(folder, eos_ids=model.shape.eos)
    engine = Engine.of(model, tokenizer, EngineConfig(num_blocks=400))
    ends = [tokenizer.encode([Piece(text)], start=True)[0] for text in (".", "\n", ",", " and")]
    fields: dict[str, Any] = {"stop_tokens": ends} if settings["ends"] else {"ignore_eos": True}
    fields |= {name: value for name, value in settings.items() if name != "ends"}
    params = SamplingParams(max_tokens=8, **fields)
    oracle.check(engine, prompts, params, wanted=(1,))
    assert (oracle.ended > 0) == settings["ends"]
    return oracle


@cache
def module_of(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("settings", SAMPLE, ids=str)
def test_smollm2(settings: dict[str, Any], smollm2: tuple[Any, Path]) -> None:
    model, folder = smollm2
    assert check_smollm2(folder, model, PROMPTS[:3], settings).excused <= 1


@pytest.mark.slow
@pytest.mark.parametrize("settings", SMOLLM2, ids=str)
def test_the_full_product_on_smollm2(
    settings: dict[str, Any],
    smollm2: tuple[Any, Path],
    record_property: Callable[[str, object], None],
) -> None:
    model, folder = smollm2
    oracle = check_smollm2(folder, model, PROMPTS, settings)
    record_property("excused", oracle.excused)
    assert oracle.excused <= 2

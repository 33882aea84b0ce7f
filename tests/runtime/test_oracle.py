"""With greedy decoding in float32, the text is the one transformers gives for the same tokens."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.models import Model, load_model
from ramet.runtime.tokenizer import Piece, Tokenizer
from tests.runtime.greedy import Excuses, Tokens, by_transformers, drain, excuses_of, submit
from tests.runtime.models.tiny import FAMILIES, VOCAB, saved, transformers_model

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 64
# Around the edges of blocks (16); with what is generated, around the edges of several.
LENGTHS = (1, 15, 16, 17, 40)
# One of each native family runs ten prompts of every length, its variants and the others four.
MOST = ("llama", "mistral", "qwen2", "qwen3")


@pytest.fixture
def excuses(request: pytest.FixtureRequest) -> Excuses:
    return excuses_of(request.config)


def greedy(model: Model, tokenizer: Tokenizer, prompts: list[Tokens]) -> list[Tokens]:
    """All prompts together, with the settings everybody gets."""
    core = EngineCore(model, tokenizer, EngineConfig())
    texts = drain(core, [submit(core, core.open(prompt), COUNT) for prompt in prompts])
    assert core.stats().cache.hits > 0, "the prompts share beginnings, and that is used"
    return texts


def random_prompts(each: int) -> list[Tokens]:
    """`each` of every length; half of them begin alike."""
    rng = random.Random(11)
    beginning = rng.choices(range(VOCAB), k=32)
    prompts = [rng.choices(range(VOCAB), k=length) for length in LENGTHS for _ in range(each)]
    for prompt in prompts[::2]:
        alike = min(len(prompt) - 1, len(beginning))
        prompt[:alike] = beginning[:alike]
    return prompts


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_models(
    family: str,
    byte_tokenizer: Tokenizer,
    excuses: Excuses,
    record_property: Callable[[str, object], None],
) -> None:
    prompts = random_prompts(10 if family in MOST else 4)
    model = load_model(str(saved(family)), dtype="float32", cache=saved(family))[0]
    module = transformers_model(saved(family))
    expected = by_transformers(module, prompts, COUNT)
    assert sum(len(set(text)) for text in expected) > 12 * len(expected), "they do not just repeat"
    got = greedy(model, byte_tokenizer, prompts)
    excused = excuses.check(family, prompts, got, expected, module)
    record_property("excused", excused)
    assert excused <= 1


WORDS = (
    "the quick brown fox jumps over a lazy dog while seven wizards brew potions near an old stone "
    "bridge in autumn rain and nobody asks why there are numbers like 42 or 1984 on every door"
).split()


def written_prompts(tokenizer: Tokenizer) -> list[Tokens]:
    """50 of three lengths; half of them begin alike."""
    rng = random.Random(5)

    def text() -> Tokens:
        return tokenizer.encode([Piece(" ".join(rng.choices(WORDS, k=60)), False)], start=True)

    beginning = text()
    prompts = [text()[-length:] for length in (1, 16, 33) for _ in range(17)][:50]
    for prompt in prompts[::2]:
        alike = min(len(prompt) - 1, 32)
        prompt[:alike] = beginning[:alike]
    return prompts


def test_smollm2(
    smollm2: tuple[Any, Path],
    excuses: Excuses,
    record_property: Callable[[str, object], None],
) -> None:
    model, folder = smollm2
    tokenizer = Tokenizer.load(folder)
    prompts = written_prompts(tokenizer)
    module = AutoModelForCausalLM.from_pretrained(folder).eval()
    got = greedy(model, tokenizer, prompts)
    expected = by_transformers(module, prompts, COUNT)
    excused = excuses.check("smollm2-135m", prompts, got, expected, module)
    record_property("excused", excused)
    assert excused <= 1

"""SmolLM2's greedy text in bfloat16 and int8: the same alone, in company, in chunks, and shared.

A layer's row has the same bits in any batch. What attention adds in another order may move an input
over the edge between two numbers: no text is promised, and the prompts are far from that.
"""

from functools import cache

import pytest

from ramet.kernels import extension
from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.models import Model, load_model
from ramet.runtime.tokenizer import Piece, Tokenizer
from tests.runtime.greedy import Tokens, drain, submit

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not extension.loaded(), reason="needs a compiler"),
]

COUNT = 16
BEGINNING = "Here is a list of facts that everybody should know about the world we live in. "
PROMPTS = [
    BEGINNING + "The capital of France is",
    BEGINNING + "The capital of Italy is the city of",
    BEGINNING + "Water is made of hydrogen and",
    "One, two, three, four,",
    "A, B, C, D, E, F,",
]
SETTINGS = {
    "in company": {"sharing": False},
    "shared": {"sharing": True},
    "in chunks": {"sharing": True, "prefill_chunk": 5, "block_size": 8},
    "preempted": {"sharing": False, "num_blocks": 8},
}


@cache
def model_of(dtype: str) -> tuple[Model, Tokenizer]:
    model, directory = load_model("smollm2-135m", dtype=dtype, cache=EngineConfig().models)
    return model, Tokenizer.load(directory)


def core_of(dtype: str, **settings: object) -> EngineCore:
    model, tokenizer = model_of(dtype)
    config = EngineConfig(**{"num_blocks": 64, **settings})  # type: ignore[arg-type]
    return EngineCore(model, tokenizer, config)


def texts(core: EngineCore, prompts: list[str]) -> list[Tokens]:
    written = [core.tokenizer.encode([Piece(prompt)], start=True) for prompt in prompts]
    return drain(core, [submit(core, core.open(prompt), COUNT) for prompt in written], audit=True)


@cache
def alone(dtype: str) -> list[Tokens]:
    return [texts(core_of(dtype, sharing=False), [prompt])[0] for prompt in PROMPTS]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_text_is_that_of_the_prompt_alone(dtype: str, setting: str) -> None:
    core = core_of(dtype, **SETTINGS[setting])
    assert texts(core, PROMPTS) == alone(dtype)
    assert (core.stats().preemptions > 0) == (setting == "preempted")

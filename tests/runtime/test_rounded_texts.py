"""SmolLM2's greedy text in bfloat16 and int8: the same alone, in company, in chunks, and shared.

A layer's row has the same bits in any batch. What attention adds in another order may move an input
over the edge between two numbers, so the prompts are some whose two best logits are never close.
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
    "Monday, Tuesday,",
]
SETTINGS = {
    "in company": {"sharing": False},
    "shared": {"sharing": True},
    "in chunks": {"sharing": True, "prefill_chunk": 5, "block_size": 8},
    "preempted": {"sharing": True, "num_blocks": 12},
}


@cache
def model_of(dtype: str) -> tuple[Model, Tokenizer]:
    model, directory = load_model("smollm2-135m", dtype=dtype, cache=EngineConfig().models)
    return model, Tokenizer.load(directory)


def texts(dtype: str, prompts: list[str], **settings: object) -> list[Tokens]:
    model, tokenizer = model_of(dtype)
    config = EngineConfig(**{"num_blocks": 64, **settings})  # type: ignore[arg-type]
    core = EngineCore(model, tokenizer, config)
    written = [tokenizer.encode([Piece(prompt)], start=True) for prompt in prompts]
    return drain(core, [submit(core, core.open(prompt), COUNT) for prompt in written], audit=True)


@cache
def alone(dtype: str) -> list[Tokens]:
    return [texts(dtype, [prompt], sharing=False)[0] for prompt in PROMPTS]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_text_is_that_of_the_prompt_alone(dtype: str, setting: str) -> None:
    assert texts(dtype, PROMPTS, **SETTINGS[setting]) == alone(dtype)

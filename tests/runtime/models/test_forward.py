"""What a forward pass gives is what transformers gives, for every family and dtype."""

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from ramet.runtime.models import Model, load_model
from ramet.runtime.models.hf import HuggingFaceModel
from ramet.runtime.models.llama import LlamaDecoder
from tests.runtime.models.paged import paged_logits
from tests.runtime.models.tiny import (
    FAMILIES,
    NATIVE,
    VOCAB,
    WINDOW,
    saved,
    transformers_logits,
)

LENGTHS = (1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 15, 16, 17, 33, 64, 150)


def loaded(folder: Path, dtype: str = "float32") -> Model:
    return load_model(str(folder), dtype=dtype, cache=folder)[0]


def texts(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    rng = random.Random(3)
    return [rng.choices(range(VOCAB), k=length) for length in lengths]


def assert_close(folder: Path, got: list[Tensor], lengths: tuple[int, ...] = LENGTHS) -> None:
    for text, logits in zip(texts(lengths), got, strict=True):
        expected = transformers_logits(folder, text)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(family: str) -> None:
    model = loaded(saved(family))
    for seed, block_size in enumerate((1, 7, 16)):
        got = paged_logits(model, texts(), block_size=block_size, seed=seed)
        assert_close(saved(family), got)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_native_families_run_natively(family: str) -> None:
    expected = LlamaDecoder if family in NATIVE else HuggingFaceModel
    assert isinstance(loaded(saved(family)), expected)


@torch.inference_mode()
def rounded_logits(folder: Path, text: list[int], dtype: torch.dtype) -> Tensor:
    """transformers' own, in a narrow dtype."""
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    return module.eval()(torch.tensor([text])).logits[0].float()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rounding_costs_no_more_than_in_transformers(family: str, dtype: str) -> None:
    """The error of a narrow dtype depends on the weights, so transformers' own is the yardstick:
    both round the same weights and about as many intermediate results."""
    (text,) = texts((90,))
    exact = transformers_logits(saved(family), text)
    (got,) = paged_logits(loaded(saved(family), dtype), [text], block_size=16, seed=1)
    theirs = rounded_logits(saved(family), text, getattr(torch, dtype))
    error, allowed = (each.sub(exact).square().mean().sqrt() for each in (got, theirs))
    print(family, dtype, error / allowed, error)
    assert got.dtype == torch.float32
    assert 0 < error < 1.5 * allowed

"""What a forward pass gives is what transformers gives, for every family and dtype."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ramet.runtime.models import Model, load_model
from ramet.runtime.models.hf import HuggingFaceModel
from ramet.runtime.models.llama import LlamaDecoder
from tests.runtime.models.paged import paged_logits
from tests.runtime.models.tiny import (
    CONTEXT,
    FAMILIES,
    NATIVE,
    OTHERS,
    VOCAB,
    WINDOW,
    save,
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

"""Models in int8: near the same in float32, and what they need."""

from pathlib import Path

import pytest
import torch

from ramet.kernels import int8
from ramet.runtime.errors import ModelError
from ramet.runtime.models import load_model
from tests.runtime.models.paged import paged_logits
from tests.runtime.models.tiny import saved

NEEDED = pytest.mark.skipif(not int8.available(), reason="needs a compiler")


@NEEDED
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
def test_logits_are_near_those_of_float32(family: str, tmp_path: Path) -> None:
    texts = [[(7 * i + length) % 50 for i in range(length)] for length in (1, 9, 33)]
    both = [
        torch.cat(
            paged_logits(
                load_model(str(saved(family)), dtype=dtype, cache=tmp_path)[0],
                texts,
                block_size=16,
                seed=1,
            )
        )
        for dtype in ("float32", "int8")
    ]
    error = (both[0] - both[1]).norm() / both[0].norm()
    assert 0 < error < 0.08  # random weights multiply what rounding does


@NEEDED
def test_models_that_transformers_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="for models of the Llama family"):
        load_model(str(saved("gpt2")), dtype="int8", cache=tmp_path)


def test_without_the_kernel_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(int8, "available", lambda folder: False)
    with pytest.raises(ModelError, match="needs the compiled kernels"):
        load_model(str(saved("llama")), dtype="int8", cache=tmp_path)

"""Models in bfloat16 on our own kernel: what is float32 around it, and who does not get it."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ramet.kernels import extension
from ramet.kernels.panels import PanelWeight
from ramet.runtime import models
from ramet.runtime.models import load_model
from ramet.runtime.models.linear import CompiledLinear, FloatLinear
from ramet.runtime.models.llama import LlamaDecoder
from tests.runtime.models.paged import paged_logits
from tests.runtime.models.tiny import NATIVE, save, saved

NEEDED = pytest.mark.skipif(not extension.loaded(), reason="needs a compiler")


def loaded(folder: Path, dtype: str = "bfloat16") -> LlamaDecoder:
    model, _ = load_model(str(folder), dtype=dtype, cache=folder)
    assert isinstance(model, LlamaDecoder)
    return model


def weights_of(layer: object) -> torch.Tensor:
    """`[out, in]` of a packed layer."""
    assert isinstance(layer, CompiledLinear)
    packed = layer._weight
    assert isinstance(packed, PanelWeight)
    return packed.values.transpose(1, 2).flatten(2).flatten(0, 1)[: packed.outputs]


@NEEDED
@pytest.mark.parametrize("family", ["llama-tied", "llama-biased", "qwen3", "mistral"])
def test_logits_are_near_those_of_float32(family: str) -> None:
    texts = [[(7 * i + length) % 50 for i in range(length)] for length in (1, 9, 33)]
    exact, got = (
        torch.cat(paged_logits(loaded(saved(family), dtype), texts, block_size=16, seed=1))
        for dtype in ("float32", "bfloat16")
    )
    error = (exact - got).norm() / exact.norm()
    assert 0 < error < 0.03  # random weights multiply what rounding does


@NEEDED
def test_weights_of_a_checkpoint_in_bfloat16_are_kept_as_they_are(tmp_path: Path) -> None:
    save(NATIVE["llama-tied"](), tmp_path)
    path = tmp_path / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        narrow = {name: file.get_tensor(name).bfloat16() for name in file.keys()}  # noqa: SIM118
    from safetensors.torch import save_file

    save_file(narrow, path, metadata={"format": "pt"})
    model = loaded(tmp_path)
    embedding = narrow["model.embed_tokens.weight"]
    assert torch.equal(weights_of(model._head), embedding)
    assert torch.equal(model._embedding, embedding.float())
    for at, layer in enumerate(model._layers):
        down = narrow[f"model.layers.{at}.mlp.down_proj.weight"]
        assert torch.equal(weights_of(layer.down), down)
        assert layer.mlp_norm.dtype == torch.float32


@NEEDED
def test_all_but_the_weights_is_float32() -> None:
    model = loaded(saved("llama"))
    assert model.shape.dtype == torch.float32
    assert weights_of(model._head).dtype == torch.bfloat16


def test_without_a_compiler_it_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.extension, "loaded", lambda folder: False)
    model = loaded(saved("llama"))
    assert model.shape.dtype == torch.bfloat16
    assert isinstance(model._head, FloatLinear)


def test_models_that_transformers_runs_are_bfloat16_altogether() -> None:
    model, _ = load_model(str(saved("gpt2")), dtype="bfloat16", cache=saved("gpt2"))
    assert model.shape.dtype == torch.bfloat16

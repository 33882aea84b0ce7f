"""A model's forward pass stays on its device.

Run on tensors without values, which are said to lie on a GPU: an operation over tensors of two
devices is an error, also on a machine that has one device only.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ramet.kernels import HeadNorms, Rotary
from ramet.kernels.gpu import gate, norm
from ramet.kernels.rotary import apart
from ramet.runtime.models import PagedAttention, load_model
from ramet.runtime.models.config import DecoderConfig
from ramet.runtime.models.linear_gpu import GpuLinear
from ramet.runtime.models.llama import LlamaDecoder
from tests.runtime.models.tiny import NATIVE, saved

GPU = torch.device("cuda", 0)


class Launched:
    """In place of a kernel: what it is launched with lies on the GPU."""

    def __init__(self) -> None:
        self.count = 0

    def __getitem__(self, grid: tuple[int, ...]) -> "Launched":
        return self

    def __call__(self, *arguments: object, **sizes: object) -> None:
        tensors = [each for each in arguments if isinstance(each, Tensor)]
        assert {each.device for each in tensors} == {GPU}
        self.count += 1


class NoCache:
    """A backend whose sequences see nothing but themselves."""

    def __init__(self, kv_heads: int, head_dim: int) -> None:
        self._sizes = kv_heads, head_dim

    def write_joined(
        self, plan: Any, layer: int, joined: Tensor, rotary: Rotary, norms: HeadNorms | None = None
    ) -> Tensor:
        query, key, value = apart(joined, *self._sizes, rotary, norms)
        assert query.device == key.device == value.device == GPU
        return query

    def attend(self, plan: Any, layer: int, query: Tensor, **options: Any) -> Tensor:
        return query


@pytest.mark.parametrize("family", NATIVE)
def test_the_native_decoder_stays_on_its_device(
    family: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms, gates = Launched(), Launched()
    monkeypatch.setattr(norm, "_rms_norm", norms)
    monkeypatch.setattr(gate, "_gated", gates)
    real, _ = load_model(str(saved(family)), dtype="bfloat16", cache=tmp_path)
    assert isinstance(real, LlamaDecoder)
    shape = replace(real.shape, device=GPU, dtype=torch.bfloat16)
    config = DecoderConfig.from_dict(NATIVE[family]().to_dict())
    weights = _shapes(family)
    with FakeTensorMode():
        model = LlamaDecoder(
            config,
            shape,
            lambda name: (
                torch.empty(weights[name], dtype=shape.dtype, device=GPU)
                if name in weights
                else None
            ),
            GpuLinear,
        )
        attention = PagedAttention(NoCache(shape.kv_heads, shape.head_dim), None)  # type: ignore[arg-type]
        tokens = torch.zeros(5, dtype=torch.int64, device=GPU)
        rows = torch.zeros(2, dtype=torch.int64, device=GPU)
        logits = model.forward(tokens, tokens, attention, rows)
    assert (logits.device, logits.dtype, logits.shape) == (GPU, torch.float32, (2, shape.vocab))
    assert (norms.count, gates.count) == (2 * shape.layers + 1, shape.layers)


def _shapes(family: str) -> dict[str, torch.Size]:
    from safetensors import safe_open

    with safe_open(saved(family) / "model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name).shape for name in file.keys()}  # noqa: SIM118

"""Weights in chunks: equal, apart, aligned, and freed together."""

import gc

import pytest
import torch

from ramet.kernels import memory


def test_copies_lie_behind_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_latest", None)
    monkeypatch.setattr(memory, "_CHUNK", 1 << 12)
    sources = [torch.randn(7, 3).T, torch.arange(200, dtype=torch.uint8), torch.randn(3000)]
    sources += [torch.randn(40), torch.empty(0)]
    copies = [memory.kept(source) for source in sources]
    for source, copy in zip(sources, copies, strict=True):
        assert torch.equal(source, copy)
        assert copy.is_contiguous()
        assert copy.data_ptr() % 64 == 0 or not copy.numel()
    assert copies[1].data_ptr() - copies[0].data_ptr() == 128
    copies[0].zero_()
    assert torch.equal(sources[1], copies[1])


def test_a_chunk_goes_with_its_last_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_latest", None)
    one, other = memory.kept(torch.ones(5)), memory.kept(torch.ones(6))
    chunk = memory._latest[0]  # type: ignore[index]
    del one
    gc.collect()
    assert chunk() is not None
    del other
    gc.collect()
    assert chunk() is None
    assert memory.kept(torch.ones(3)).sum() == 3

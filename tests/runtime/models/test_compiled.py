"""All layers in one call give what the operators give one by one, and leave the interpreter to
others meanwhile."""

import random
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ramet.kernels import KVCache, Step, backend_for, extension
from ramet.kernels.compiled import CompiledBackend
from ramet.runtime.models import load_model
from ramet.runtime.models.llama import LlamaDecoder
from ramet.runtime.runner import layout_of
from tests.runtime.models.paged import paged_logits
from tests.runtime.models.tiny import NATIVE, VOCAB, saved

pytestmark = pytest.mark.skipif(not extension.loaded(), reason="needs a C++ compiler")

LENGTHS = (1, 7, 8, 9, 16, 33, 64, 150)


def loaded(folder: Path, dtype: str) -> LlamaDecoder:
    model, _ = load_model(str(folder), dtype=dtype, cache=folder)
    assert isinstance(model, LlamaDecoder)
    return model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("family", NATIVE)
def test_one_call_gives_what_the_operators_give_one_by_one(family: str, dtype: str) -> None:
    rng = random.Random(5)
    texts = [rng.choices(range(VOCAB), k=length) for length in LENGTHS]
    model = loaded(saved(family), dtype)
    assert model._compiled is not None
    at_once = paged_logits(model, texts, block_size=7, seed=2)
    model._compiled = None
    one_by_one = paged_logits(model, texts, block_size=7, seed=2)
    for ours, theirs in zip(at_once, one_by_one, strict=True):
        assert torch.equal(ours, theirs)


def test_what_is_not_on_our_kernels_goes_one_by_one() -> None:
    model = loaded(saved("llama"), "float16")
    assert model._compiled is None
    (logits,) = paged_logits(model, [[1, 2, 3]], block_size=4, seed=0)
    assert logits.isfinite().all()


def test_a_cache_of_other_layers_is_refused() -> None:
    call = _Call(loaded(saved("llama"), "float32"), tokens=3)
    call.backend.cache.data = call.backend.cache.data[:2]
    with pytest.raises(RuntimeError, match="a cache of as many layers"):
        call()


def test_others_run_while_the_layers_do() -> None:
    call = _Call(loaded(saved("llama"), "float32"), tokens=512)
    call()  # what is worked out once a step is there from now on
    go, ran = threading.Event(), threading.Event()

    def other() -> None:
        go.wait()
        ran.set()

    thread = threading.Thread(target=other)
    thread.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # nobody is made to let go of the interpreter's lock
    try:
        go.set()
        alone = not ran.is_set()
        call()
        met = ran.is_set()
    finally:
        sys.setswitchinterval(before)
        thread.join()
    assert alone
    assert met


class _Call:
    """One prompt through the layers."""

    def __init__(self, model: LlamaDecoder, tokens: int) -> None:
        assert model._compiled is not None
        self.backend = backend_for(KVCache(layout_of(model.shape, 64, 16)))
        assert isinstance(self.backend, CompiledBackend)
        self._layers = model._compiled
        self._plan = self.backend.plan(
            Step(
                query_starts=torch.tensor([0, tokens]),
                contexts=torch.tensor([tokens]),
                block_tables=torch.arange(64)[None],
                slots=torch.arange(tokens),
            )
        )
        self._hidden = torch.randn(tokens, 48)
        self._rotary = model._rotary.angles(torch.arange(tokens))

    def __call__(self) -> Tensor:
        assert isinstance(self.backend, CompiledBackend)
        return self._layers(self._hidden, self._rotary, self.backend, self._plan)

"""Joined projections become rotated queries and what the cache holds, in every backend."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ramet.kernels import Backend, HeadNorms, KVCache, KVLayout, Rotary, Step
from ramet.kernels.cpu import CpuBackend
from ramet.kernels.reference import ReferenceBackend
from tests.kernels.steps import NAN, compiled

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PAIRS = (*((each, each) for each in DTYPES), *((torch.float32, each) for each in DTYPES[1:]))
"""Of what is written, and of the cache."""
BACKENDS: dict[str, Callable[[KVCache], Backend]] = {
    "compiled": compiled,
    "cpu": CpuBackend,
    "reference": ReferenceBackend,
}


class Drawn:
    """A step of `rows` tokens, some of which are in the cache already; free slots are NaN."""

    def __init__(
        self,
        seed: int,
        dtype: torch.dtype = torch.float32,
        rows: int | None = None,
        kept: torch.dtype | None = None,
    ) -> None:
        rng, draw = random.Random(seed), torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw).to(dtype)

        self.rows = rng.choice((0, 1, 2, 15, 17, 40)) if rows is None else rows
        self.dim = rng.choice((2, 6, 16, 20, 34, 64, 80, 96, 128))
        self.kv_heads, self.heads = rng.choice(((1, 1), (1, 4), (2, 6), (3, 9), (2, 2)))
        self.joined = normal(self.rows, (self.heads + 2 * self.kv_heads) * self.dim)
        angle = 6 * torch.randn(self.rows, self.dim // 2, generator=draw)
        factor = rng.choice((1.0, 1.2))
        self.rotary = Rotary(angle.cos() * factor, angle.sin() * factor)
        pairs = torch.polar(torch.full_like(angle, factor), angle).to(torch.complex128)
        self.pairs = pairs[:, None]
        norms = HeadNorms(1 + normal(self.dim), 1 + normal(self.dim), 1e-3)
        self.norms = rng.choice((None, norms))
        slots = rng.sample(range(60), self.rows)
        self.slots = [slot if rng.random() < 0.7 else -1 for slot in slots]
        self.layout = KVLayout(2, self.kv_heads, self.dim, 20, 3, kept or dtype)

    def run(self, make: Callable[[KVCache], Backend]) -> tuple[Tensor, Tensor]:
        """Queries, and the cache's layer 1."""
        cache = KVCache(self.layout)
        cache.data[:, :, :, : cache.null_slot] = NAN
        step = Step(
            query_starts=torch.arange(self.rows + 1),
            contexts=torch.ones(self.rows, dtype=torch.int64),
            block_tables=torch.zeros(self.rows, 1, dtype=torch.int64),
            slots=torch.tensor(self.slots, dtype=torch.int64),
        )
        backend = make(cache)
        query = backend.write_joined(backend.plan(step), 1, self.joined, self.rotary, self.norms)
        assert cache.data[0, :, :, :-1].isnan().all(), "the other layer's"
        assert not cache.data[:, :, :, -1].any()
        return query, cache.data[1]

    def expected(self) -> tuple[Tensor, Tensor, Tensor]:
        """By the formula, in float64 and complex numbers."""
        every = self.joined.double().unflatten(1, (-1, self.dim))
        query, key, value = every.split((self.heads, self.kv_heads, self.kv_heads), 1)
        if self.norms is not None:
            query = self._normed(query, self.norms.query)
            key = self._normed(key, self.norms.key)
        return self._turned(query), self._turned(key), value

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight.double()

    def _turned(self, x: Tensor) -> Tensor:
        half = self.dim // 2
        turned = torch.complex(x[..., :half], x[..., half:]) * self.pairs
        return torch.cat((turned.real, turned.imag), -1)


def assert_near(got: Tensor, expected: Tensor) -> None:
    """To a few units in the last place of the largest number of a head."""
    most = expected.abs().amax(-1, keepdim=True) if expected.numel() else expected
    assert ((got - expected).abs() <= 4 * torch.finfo(got.dtype).eps * most).all()


@pytest.mark.parametrize(("dtype", "kept"), PAIRS, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(20))
def test_random_steps(seed: int, backend: str, dtype: torch.dtype, kept: torch.dtype) -> None:
    drawn = Drawn(seed, dtype, kept=kept)
    query, cache = drawn.run(BACKENDS[backend])
    expected, key, value = drawn.expected()
    assert query.dtype == dtype
    assert query.shape == expected.shape
    assert_near(query, expected)
    free = torch.ones(cache.shape[2], dtype=torch.bool)
    for row, slot in enumerate(drawn.slots):
        if slot >= 0:
            assert_near(cache[0, :, slot], key[row])
            assert torch.equal(cache[1, :, slot], value[row].to(kept))
            free[slot] = False
    free[-1] = False
    assert cache[:, :, free].isnan().all(), "only the slots of the step are written"


@pytest.mark.parametrize(("dtype", "kept"), PAIRS, ids=str)
@pytest.mark.parametrize("seed", range(10))
def test_a_token_gets_what_it_would_get_alone(
    seed: int, dtype: torch.dtype, kept: torch.dtype
) -> None:
    """To the bit, and with any number of threads."""
    drawn = Drawn(seed, dtype, rows=40, kept=kept)
    torch.set_num_threads(3)
    query, cache = drawn.run(compiled)
    torch.set_num_threads(1)
    for row in (0, 7, 39):
        one = Drawn(seed, dtype, rows=40, kept=kept)
        one.rows, one.slots = 1, [drawn.slots[row]]
        one.joined = drawn.joined[row : row + 1]
        one.rotary = Rotary(drawn.rotary.cos[row : row + 1], drawn.rotary.sin[row : row + 1])
        alone, own = one.run(compiled)
        assert torch.equal(alone[0], query[row])
        if (slot := drawn.slots[row]) >= 0:
            assert torch.equal(own[:, :, slot], cache[:, :, slot])


def test_what_does_not_fit_is_refused() -> None:
    drawn = Drawn(3, rows=5)
    whole = drawn.joined
    for wrong, told in (
        (whole.double(), "of the cache's type"),
        (whole[:, :-1].contiguous(), "dim"),
        (whole.T.contiguous().T, "dim"),
    ):
        drawn.joined = wrong
        with pytest.raises(RuntimeError, match=told):
            drawn.run(compiled)
    drawn.joined = whole
    drawn.slots[2] = 60  # the null slot
    with pytest.raises(RuntimeError, match="no slot 60"):
        drawn.run(compiled)
    drawn.slots[2] = 4
    drawn.rotary = Rotary(drawn.rotary.cos[:-1], drawn.rotary.sin[:-1])
    with pytest.raises(RuntimeError, match="cosines"):
        drawn.run(compiled)

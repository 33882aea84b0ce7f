"""Float32 linear layers: the exact product, and each row by itself."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.kernels import extension, float32

pytestmark = pytest.mark.skipif(not extension.loaded(), reason="needs a compiler")

SIZES = (1, 15, 16, 31, 32, 33, 64, 100, 577)
ROWS = (0, 1, 2, 11, 12, 13, 25, 90, 470)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(got: Tensor, expected: Tensor) -> None:
    """As near as sums of some hundred float32 products are."""
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(60))
def test_random_shapes(seed: int) -> None:
    rng = random.Random(seed)
    rows, inputs, outputs = rng.choice(ROWS), rng.choice(SIZES), rng.choice(SIZES)
    x, weight = drawn(rows, inputs, seed=seed), drawn(outputs, inputs, seed=seed + 1000)
    got = float32.linear(x, float32.pack(weight))
    assert got.shape == (rows, outputs)
    close(got, x.double() @ weight.double().T)


@pytest.mark.parametrize("seed", range(20))
def test_a_row_gets_what_it_would_get_alone(seed: int) -> None:
    rng = random.Random(seed)
    rows, inputs, outputs = rng.choice(ROWS[2:]), rng.choice(SIZES), rng.choice(SIZES)
    x, packed = drawn(rows, inputs, seed=seed), float32.pack(drawn(outputs, inputs, seed=seed + 9))
    norm = drawn(inputs, seed=3)
    together = float32.linear(x, packed, norm=norm, eps=1e-5)
    for row in range(rows):
        alone = float32.linear(x[row : row + 1], packed, norm=norm, eps=1e-5)[0]
        assert torch.equal(alone, together[row])


@pytest.mark.parametrize("inputs", [1, 17, 64, 100])
def test_what_comes_before_and_after(inputs: int) -> None:
    outputs, rows = 40, 14
    weight, x = drawn(outputs, inputs, seed=1), drawn(rows, inputs, seed=2)
    bias, residual = drawn(outputs, seed=3), drawn(rows, outputs, seed=4)
    packed, exact = float32.pack(weight), weight.double().T
    close(
        float32.linear(x, packed, bias=bias, residual=residual),
        x.double() @ exact + bias.double() + residual.double(),
    )
    norm = drawn(inputs, seed=5)
    normed = F.rms_norm(x.double(), (inputs,), norm.double(), 1e-3)
    close(float32.linear(x, packed, norm=norm, eps=1e-3), normed @ exact)
    gate_up = 3 * drawn(rows, 2 * inputs, seed=6)
    gate, up = gate_up.double().chunk(2, -1)
    close(float32.linear(gate_up, packed, gated=True), (F.silu(gate) * up) @ exact)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_stays_in_its_row(bad: float) -> None:
    x, packed = drawn(14, 130, seed=8), float32.pack(drawn(33, 130, seed=9))
    clean = float32.linear(x, packed)
    x[3, 70] = bad
    got = float32.linear(x, packed)
    assert not got[3].isfinite().any()
    others = [row for row in range(14) if row != 3]
    assert torch.equal(got[others], clean[others])


def test_what_does_not_fit_is_refused() -> None:
    packed = float32.pack(drawn(33, 130, seed=9))
    with pytest.raises(RuntimeError, match="columns"):
        float32.linear(drawn(2, 200, seed=1), packed)
    with pytest.raises(RuntimeError, match="residual"):
        float32.linear(drawn(2, 130, seed=1), packed, residual=drawn(1, 33, seed=1))
    with pytest.raises(RuntimeError, match="contiguous"):
        float32.linear(drawn(130, 2, seed=1).T, packed)
    with pytest.raises(RuntimeError, match="type"):
        float32.linear(drawn(2, 130, seed=1).double(), packed)

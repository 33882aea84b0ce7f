"""int8 linear layers: near the exact product, near what quantization says, and row by row."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.kernels import int8

pytestmark = pytest.mark.skipif(not int8.available(), reason="needs a compiler")

SIZES = (1, 15, 16, 31, 32, 33, 63, 64, 65, 100, 576)
ROWS = (0, 1, 2, 5, 6, 7, 12, 13, 241)


def error(got: Tensor, expected: Tensor) -> float:
    """Relative, of the whole."""
    return float((got - expected).norm() / expected.norm().clamp_min(1e-9))


def drawn(*shape: int, seed: int) -> Tensor:
    """Normal numbers, a hundredth of them fifty times as large."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(shape, generator=generator)
    return numbers * (1 + 49 * (torch.rand(shape, generator=generator) < 0.01))


def rounded(x: Tensor) -> Tensor:
    """What is left of `[n, in]` when each group is rotated, rounded, and rotated back."""
    return int8.unpack(int8.pack(x), x.shape[1])


@pytest.mark.parametrize("seed", range(60))
def test_random_shapes(seed: int) -> None:
    rng = random.Random(seed)
    rows, inputs, outputs = rng.choice(ROWS), rng.choice(SIZES), rng.choice(SIZES)
    x, weight = drawn(rows, inputs, seed=seed), drawn(outputs, inputs, seed=seed + 1000)
    packed = int8.pack(weight)
    got = int8.linear(x, packed)
    assert got.shape == (rows, outputs)
    if rows:
        twice = (rounded(x).double() @ int8.unpack(packed, inputs).double().T).float()
        assert error(got, x @ weight.T) < 0.03
        assert error(got, twice) < 1e-3  # a number between two whole ones may go either way


@pytest.mark.parametrize("seed", range(20))
def test_a_row_gets_what_it_would_get_alone(seed: int) -> None:
    rng = random.Random(seed)
    rows, inputs, outputs = rng.choice(ROWS[2:]), rng.choice(SIZES), rng.choice(SIZES)
    x, packed = drawn(rows, inputs, seed=seed), int8.pack(drawn(outputs, inputs, seed=seed + 500))
    together = int8.linear(x, packed)
    for row in range(rows):
        assert torch.equal(int8.linear(x[row : row + 1], packed)[0], together[row])


@pytest.mark.parametrize("inputs", [1, 17, 64, 100])
def test_what_comes_before_and_after(inputs: int) -> None:
    outputs, rows = 40, 7
    weight, x = drawn(outputs, inputs, seed=1), drawn(rows, inputs, seed=2)
    bias, residual = drawn(outputs, seed=3), drawn(rows, outputs, seed=4)
    packed = int8.pack(weight)
    torch.testing.assert_close(
        int8.linear(x, packed, bias=bias, residual=residual),
        int8.linear(x, packed) + bias + residual,
    )
    norm = drawn(inputs, seed=5)
    normed = F.rms_norm(x, (inputs,), norm, 1e-3)
    assert error(int8.linear(x, packed, norm=norm, eps=1e-3), normed @ weight.T) < 0.02
    gate_up = 3 * drawn(rows, 2 * inputs, seed=6)
    gate, up = gate_up.chunk(2, -1)
    assert error(int8.linear(gate_up, packed, gated=True), (F.silu(gate) * up) @ weight.T) < 0.02


def test_packing_rounds_to_half_a_step() -> None:
    weight = drawn(70, 130, seed=7)
    packed = int8.pack(weight)
    left = int8.unpack(packed, 130)
    # Half a step in each of 64 rotated places is at most 8 half steps in one.
    assert (weight - left).abs().max() <= 8 * packed.scales.max() / 2
    assert torch.equal(int8.unpack(int8.pack(torch.zeros(3, 5)), 5), torch.zeros(3, 5))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_stays_in_its_row(bad: float) -> None:
    x, packed = drawn(8, 130, seed=8), int8.pack(drawn(33, 130, seed=9))
    clean = int8.linear(x, packed)
    x[3, 70] = bad
    got = int8.linear(x, packed)
    assert not got[3].isfinite().any()
    others = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(got[others], clean[others])


def test_what_does_not_fit_is_refused() -> None:
    packed = int8.pack(drawn(33, 130, seed=9))
    with pytest.raises(RuntimeError, match="columns"):
        int8.linear(drawn(2, 200, seed=1), packed)
    with pytest.raises(RuntimeError, match="residual"):
        int8.linear(drawn(2, 130, seed=1), packed, residual=drawn(1, 33, seed=1))
    with pytest.raises(RuntimeError, match="contiguous"):
        int8.linear(drawn(130, 2, seed=1).T, packed)
    with pytest.raises(RuntimeError, match="type"):
        int8.linear(drawn(2, 130, seed=1).double(), packed)

"""bfloat16 linear layers: the product of rounded numbers, and each row by itself."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.kernels import bfloat16, extension

pytestmark = pytest.mark.skipif(not extension.loaded(), reason="needs a compiler")

SIZES = (1, 15, 16, 31, 32, 33, 64, 100, 577)
ROWS = (0, 1, 2, 11, 12, 13, 25, 90, 950)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rounded(x: Tensor) -> Tensor:
    """The nearest bfloat16 numbers, in float64."""
    return x.bfloat16().double()


def product(x: Tensor, weight: Tensor) -> Tensor:
    return rounded(x) @ rounded(weight).T


def close(got: Tensor, expected: Tensor) -> None:
    """As near as sums of some hundred float32 products are."""
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


def near(got: Tensor, expected: Tensor) -> None:
    """For inputs that were computed: one that lies between two numbers may go either way."""
    assert (got - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("seed", range(60))
def test_random_shapes(seed: int) -> None:
    rng = random.Random(seed)
    rows, inputs, outputs = rng.choice(ROWS), rng.choice(SIZES), rng.choice(SIZES)
    x, weight = drawn(rows, inputs, seed=seed), drawn(outputs, inputs, seed=seed + 1000)
    got = bfloat16.linear(x, bfloat16.pack(weight))
    assert got.shape == (rows, outputs)
    close(got, product(x, weight))


def test_rounding_is_to_the_nearest_and_of_two_to_the_even_one() -> None:
    """One product each: no sum hides what an input was rounded to."""
    step = 2**-7  # between the numbers of bfloat16 from 1 to 2
    numbers = 1 + step * torch.arange(0, 8, 0.25)
    x = torch.cat([numbers, -numbers, torch.tensor([3.3e38, -3.4e38, 0.0])])[:, None]
    got = bfloat16.linear(x, bfloat16.pack(torch.ones(1, 1)))
    assert torch.equal(got, x.bfloat16().float())


def test_weights_that_are_bfloat16_keep_their_bits() -> None:
    weight = drawn(37, 51, seed=1).bfloat16()
    for given in (weight, weight.float()):
        packed = bfloat16.pack(given)
        assert packed.values.dtype == torch.bfloat16
        assert torch.equal(packed.values.transpose(1, 2).flatten(0, 1).flatten(1)[:37, :51], weight)
    got = bfloat16.linear(torch.eye(51), bfloat16.pack(weight))
    assert torch.equal(got.T, weight.float())


@pytest.mark.parametrize("seed", range(20))
def test_a_row_gets_what_it_would_get_alone(seed: int) -> None:
    rng = random.Random(seed)
    rows, inputs, outputs = rng.choice(ROWS[2:]), rng.choice(SIZES), rng.choice(SIZES)
    x, packed = drawn(rows, inputs, seed=seed), bfloat16.pack(drawn(outputs, inputs, seed=seed + 9))
    norm = drawn(inputs, seed=3)
    together = bfloat16.linear(x, packed, norm=norm, eps=1e-5)
    for row in range(rows):
        alone = bfloat16.linear(x[row : row + 1], packed, norm=norm, eps=1e-5)[0]
        assert torch.equal(alone, together[row])


@pytest.mark.parametrize("inputs", [1, 17, 64, 100])
def test_what_comes_before_and_after(inputs: int) -> None:
    outputs, rows = 40, 14
    weight, x = drawn(outputs, inputs, seed=1), drawn(rows, inputs, seed=2)
    bias, residual = drawn(outputs, seed=3), drawn(rows, outputs, seed=4)
    packed = bfloat16.pack(weight)
    close(
        bfloat16.linear(x, packed, bias=bias, residual=residual),
        product(x, weight) + bias.double() + residual.double(),
    )
    norm = drawn(inputs, seed=5)
    normed = F.rms_norm(x.double(), (inputs,), norm.double(), 1e-3)
    near(bfloat16.linear(x, packed, norm=norm, eps=1e-3), product(normed, weight))
    gate_up = 3 * drawn(rows, 2 * inputs, seed=6)
    gate, up = gate_up.double().chunk(2, -1)
    near(bfloat16.linear(gate_up, packed, gated=True), product(F.silu(gate) * up, weight))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_stays_in_its_row(bad: float) -> None:
    x, packed = drawn(14, 130, seed=8), bfloat16.pack(drawn(33, 130, seed=9))
    clean = bfloat16.linear(x, packed)
    x[3, 70] = bad
    got = bfloat16.linear(x, packed)
    assert not got[3].isfinite().any()
    others = [row for row in range(14) if row != 3]
    assert torch.equal(got[others], clean[others])


def test_any_nan_is_one_when_rounded() -> None:
    """All bits set would carry over into the sign."""
    x = torch.tensor([[0x7FFFFFFF], [-1], [0x7F800001]], dtype=torch.int32).view(torch.float32)
    assert bfloat16.linear(x, bfloat16.pack(torch.ones(1, 1))).isnan().all()


def test_what_does_not_fit_is_refused() -> None:
    packed = bfloat16.pack(drawn(33, 130, seed=9))
    with pytest.raises(RuntimeError, match="columns"):
        bfloat16.linear(drawn(2, 200, seed=1), packed)
    with pytest.raises(RuntimeError, match="residual"):
        bfloat16.linear(drawn(2, 130, seed=1), packed, residual=drawn(1, 33, seed=1))
    with pytest.raises(RuntimeError, match="contiguous"):
        bfloat16.linear(drawn(130, 2, seed=1).T, packed)
    with pytest.raises(RuntimeError, match="type"):
        bfloat16.linear(drawn(2, 130, seed=1).double(), packed)


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_on_processors_with_less(capability: str, tmp_path: Path) -> None:
    """This file and its siblings once more, built with fewer of the processor's vectors."""
    folder = Path(__file__).parent
    code = (
        "import pytest, sys, torch\n"
        "torch.cpu._is_avx512_bf16_supported = torch.cpu._is_vnni_supported = lambda: False\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *sys.argv[1:]]))"
    )
    files = [str(folder / f"test_{name}.py") for name in ("bfloat16", "float32", "int8")]
    done = subprocess.run(
        [sys.executable, "-c", code, *files],
        env={**os.environ, "HOME": str(tmp_path), "ATEN_CPU_CAPABILITY": capability},
        cwd=folder.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert list((tmp_path / ".cache/ramet/kernels").glob("*.so"))

"""RMS norm on a device against its formula in float64."""

import random

import pytest
import torch
from torch import Tensor

from ramet.kernels.gpu.norm import rms_norm

# Rounded once from float32: half a unit in the last place, and what sums in float32 add to that.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}
SHAPES = [(1, 1), (3, 7), (2, 64), (5, 65), (4, 576), (0, 64), (2, 5000)]


def formula(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.double()
    return wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt() * weight.double()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_norms_are_those_of_the_formula(
    shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> None:
    seed = random.randrange(2**32)
    torch.manual_seed(seed)
    x = torch.randn(shape, device=device).to(dtype) * 3
    weight = torch.randn(shape[1], device=device).to(dtype)
    close = {"rtol": TOLERANCE[dtype], "atol": 1e-6, "msg": lambda m: f"seed {seed}: {m}"}
    torch.testing.assert_close(
        rms_norm(x, weight, 1e-5).double(), formula(x, weight, 1e-5), **close
    )


def test_rows_of_a_wider_matrix_and_rows_of_zeros(device: torch.device) -> None:
    wide = torch.randn(4, 20, device=device)
    wide[2] = 0
    weight = torch.ones(9, device=device)
    found = rms_norm(wide[:, 3:12], weight, 1e-6)
    torch.testing.assert_close(found.double(), formula(wide[:, 3:12], weight, 1e-6))
    assert not found[2].any()


def test_rows_too_wide_are_refused(device: torch.device) -> None:
    with pytest.raises(ValueError, match="rows of 65537 numbers are too wide"):
        rms_norm(torch.zeros(1, 65_537, device=device), torch.ones(65_537, device=device), 1e-6)

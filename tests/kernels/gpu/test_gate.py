"""The gate on a device against its formula in float64."""

import random

import pytest
import torch

from ramet.kernels.gpu.gate import gated

TOLERANCE = {torch.float32: 2e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 1024), (4, 1025), (5, 1536), (0, 8), (3, 0)])
def test_the_gate_is_that_of_the_formula(
    shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> None:
    seed = random.randrange(2**32)
    torch.manual_seed(seed)
    gate, up = (torch.randn(shape, device=device).to(dtype) * 4 for _ in range(2))
    expected = gate.double() * gate.double().sigmoid() * up.double()
    torch.testing.assert_close(
        gated(torch.cat([gate, up], 1)).double(),
        expected,
        rtol=TOLERANCE[dtype],
        atol=1e-6,
        msg=lambda message: f"seed {seed}: {message}",
    )


def test_far_gates_are_shut_or_open(device: torch.device) -> None:
    gate = torch.tensor([[-80.0, 80.0]], device=device)
    found = gated(torch.cat([gate, torch.ones_like(gate)], 1))
    torch.testing.assert_close(found, torch.tensor([[0.0, 80.0]], device=device))

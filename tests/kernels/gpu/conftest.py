"""Kernels run on the GPU where there is one, and in triton's interpreter elsewhere."""

import pytest
import torch

from tests.kernels.gpu.interpreter import mend

mend()


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

"""The decorator of a kernel, for type checkers."""

from collections.abc import Callable
from typing import Any

import triton


def kernel(function: Callable[..., object]) -> Any:
    """`triton.jit`. What it makes is launched with options that the function has no names for, and
    called by other kernels, which its own type forbids."""
    return triton.jit(function)

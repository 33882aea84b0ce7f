"""Triton's interpreter (3.6), mended where kernels of ours need it."""

from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter


def mend() -> None:
    """Twice is once."""
    if interpreter._patch_lang_tensor is not _patched:
        interpreter._patch_lang_tensor = _patched
        setattr(interpreter.InterpreterBuilder, "create_dot", _dot)  # noqa: B010
        interpreter._convert_float = _converted


_inner_patch = interpreter._patch_lang_tensor
_inner_dot = interpreter.InterpreterBuilder.create_dot


def _patched(tensor: Any, scope: Any) -> None:
    """Loops go by numbers that were loaded: a scalar is an array with one element, of which
    numpy 2.4 makes no int."""
    _inner_patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


def _dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
    """bfloat16 is kept as the bits of its numbers, and products are of the numbers."""
    return _inner_dot(self, _widened(a), _widened(b), *rest)


def _widened(handle: Any) -> Any:
    if handle.dtype.scalar != tl.bfloat16:
        return handle
    bits = handle.data.astype(np.uint32) << 16
    return interpreter.TensorHandle(bits.view(np.float32), tl.float32)


_TORCH = {
    tl.float16: torch.float16,
    tl.bfloat16: torch.bfloat16,
    tl.float32: torch.float32,
    tl.float64: torch.float64,
    tl.float8e4nv: torch.float8_e4m3fn,
    tl.float8e5: torch.float8_e5m2,
}
_BITS = {1: (np.uint8, torch.uint8), 2: (np.int16, torch.int16), 4: (np.int32, torch.int32)}
_BITS[8] = (np.int64, torch.int64)


def _converted(data: Any, source: tl.dtype, target: tl.dtype, rounding: Any) -> Any:
    """To the nearest number, as a GPU does it; the interpreter cuts bits off."""
    numbers = torch.from_numpy(np.ascontiguousarray(data).view(_BITS[data.itemsize][0]))
    found = numbers.view(_TORCH[source]).to(_TORCH[target])
    bits = found.view(_BITS[found.itemsize][1]).numpy()
    return bits.view(f"uint{8 * found.itemsize}").reshape(data.shape)

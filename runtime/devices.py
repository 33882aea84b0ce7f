"""What a device name stands for, what is missing where it is not there, and what it computes in.

Knows no model and no cache.
"""

from importlib.util import find_spec

import torch

from ramet.runtime.config import KV_DTYPES
from ramet.runtime.errors import EngineError

CPU = torch.device("cpu")


def device_of(name: str) -> torch.device:
    """The device of that name, which is there and can be used.

    Args:
        name: `cpu`, `cuda` (the current one) or `cuda:N`.

    Raises:
        EngineError: it cannot be used; says what is missing.
    """
    device = torch.device(name)
    if device.type == "cpu":
        return device
    if torch.version.cuda is None:
        raise EngineError(
            f"device: {name!r} needs a torch with CUDA, and torch {torch.__version__} has none: "
            "install the plain Linux wheel of torch, whose version does not end in '+cpu'"
        )
    if not torch.cuda.is_available():
        raise EngineError(
            f"device: {name!r}: torch {torch.__version__} finds no usable GPU: look whether "
            "nvidia-smi lists one, whether CUDA_VISIBLE_DEVICES hides it, and whether the driver "
            f"is new enough for CUDA {torch.version.cuda}"
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise EngineError(f"device: {name!r} is not there: the last is 'cuda:{count - 1}'")
    if find_spec("triton") is None:
        raise EngineError(f"device: {name!r} needs the package triton (Linux): pip install triton")
    return torch.device(
        "cuda", torch.cuda.current_device() if device.index is None else device.index
    )


def kv_dtype_of(name: str | None, model: torch.dtype) -> torch.dtype:
    """What keys and values are kept in: the name's, or what the model computes in."""
    return model if name is None else getattr(torch, KV_DTYPES[name])


def default_dtype(device: torch.device) -> str:
    """float32 on CPU; on a GPU bfloat16: models are trained in it, and half as much is read."""
    return "float32" if device.type == "cpu" else "bfloat16"

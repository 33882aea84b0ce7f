"""What a device name stands for, what is missing where it is not there, and what it computes in.

Knows no model and no cache.
"""

from importlib.util import find_spec

import torch

from ramet.runtime.config import KV_DTYPES
from ramet.runtime.errors import EngineError

CPU = torch.device("cpu")

_NEEDS = {
    torch.bfloat16: ((8, 0), "float16"),
    torch.float8_e4m3fn: ((8, 9), "bfloat16, or float16 below 8.0"),
}
"""The compute capability from which a GPU's kernels take a dtype, and what to take below it."""


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


def kv_dtype_of(name: str | None, model: torch.dtype, device: torch.device) -> torch.dtype:
    """What keys and values are kept in: the name's, or what the model computes in.

    Raises:
        EngineError: the GPU knows no numbers of that kind, or of the model's own; or a CPU would
            have to keep something else than what a model in bfloat16 or float16 computes.
    """
    kept = model if name is None else getattr(torch, KV_DTYPES[name])
    if device.type == "cpu" and model not in (kept, torch.float32):
        raise EngineError(
            f"kv_dtype: on a CPU {name!r} goes with dtype 'float32' or 'int8'; this model computes "
            f"in {str(model).removeprefix('torch.')}: leave kv_dtype out"
        )
    if device.type == "cuda":
        has = torch.cuda.get_device_capability(device)
        for what, dtype in (("dtype", model), ("kv_dtype", kept)):
            needs, instead = _NEEDS.get(dtype, ((0, 0), ""))
            if has < needs:
                raise EngineError(
                    f"{what}: {str(dtype).removeprefix('torch.')} needs a GPU of compute "
                    f"capability {needs[0]}.{needs[1]}, and {device} has {has[0]}.{has[1]}: "
                    f"take {instead}"
                )
    return kept


def default_dtype(device: torch.device) -> str:
    """float32 on CPU; on a GPU bfloat16: models are trained in it, and half as much is read."""
    return "float32" if device.type == "cpu" else "bfloat16"

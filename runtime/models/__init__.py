"""Model architectures and how their weights are loaded."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ramet.kernels import bfloat16, extension, float32, int8
from ramet.runtime.devices import default_dtype, device_of
from ramet.runtime.errors import ModelError
from ramet.runtime.models import sources
from ramet.runtime.models.config import DecoderConfig, is_native
from ramet.runtime.models.linear import CompiledLinear, FloatLinear, Kernel, LinearMaker
from ramet.runtime.models.llama import LlamaDecoder
from ramet.runtime.models.model import Model, ModelShape, PagedAttention
from ramet.runtime.models.weights import Checkpoint

__all__ = ["DTYPES", "Model", "ModelShape", "PagedAttention", "load_model"]

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.float32,
}
"""What is computed with and cached. Where a kernel of our own runs the linear layers (`_KERNELS`),
their weights alone are of the dtype, and all else is float32."""

_KERNELS: dict[str, Kernel] = {"float32": float32, "bfloat16": bfloat16, "int8": int8}
"""On CPU, for models of the Llama family, where there is a compiler."""


def load_model(
    name: str, *, dtype: str | None, cache: Path, device: str = "cpu"
) -> tuple[Model, Path]:
    """Find and load a model; the directory it lies in has its tokenizer too.

    Args:
        name: see `sources.find`.
        dtype: a key of `DTYPES`; None: the device's own default.
        cache: where converted models are kept.
        device: see `devices.device_of`; the weights are read straight to it.

    Raises:
        EngineError: the device is not there.
        ModelError: unknown model, dtype or architecture, damaged files, or a model that cannot run
            in int8 here.
    """
    place = device_of(device)
    if dtype is None:
        dtype = default_dtype(place)
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if dtype == "int8" and place.type != "cpu":
        raise ModelError(f"dtype 'int8' is for device='cpu', not {device!r}: take bfloat16")
    if dtype == "int8" and not int8.available(cache / "kernels"):
        raise ModelError(
            "dtype 'int8' needs the compiled kernels, which cannot be used here: install a C++ "
            "compiler (GCC 12 or clang 15 and newer), or take float32"
        )
    directory = sources.find(name, cache)
    raw = _read(directory / "config.json")
    eos = _eos(raw, directory)
    if is_native(raw):
        return _native(raw, directory, dtype, place, name, eos, cache / "kernels"), directory
    if dtype == "int8":
        raise ModelError(
            f"dtype 'int8' is for models of the Llama family; {name} is none: take float32"
        )
    from ramet.runtime.models import hf

    return hf.load(directory, DTYPES[dtype], place, name, eos), directory


def _native(
    raw: dict[str, Any],
    directory: Path,
    dtype: str,
    device: torch.device,
    name: str,
    eos: frozenset[int],
    kernels: Path,
) -> LlamaDecoder:
    config = DecoderConfig.from_dict(raw)
    kernel = _kernel(dtype, device, kernels)
    shape = ModelShape(
        layers=config.layers,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        vocab=config.vocab,
        context=config.context,
        eos=eos,
        dtype=torch.float32 if kernel else DTYPES[dtype],
        name=name,
        device=device,
    )
    weights = Checkpoint(directory, shape.dtype, device)
    return LlamaDecoder(config, shape, weights, _maker(kernel, device))


def _kernel(dtype: str, device: torch.device, folder: Path) -> Kernel | None:
    """The kernel of our own for linear layers of that dtype."""
    if device.type == "cpu" and dtype in _KERNELS and extension.loaded(folder):
        return _KERNELS[dtype]
    return None


def _maker(kernel: Kernel | None, device: torch.device) -> LinearMaker:
    if device.type != "cpu":
        from ramet.runtime.models.linear_gpu import GpuLinear

        return GpuLinear
    return partial(CompiledLinear, kernel) if kernel else FloatLinear


def _eos(raw: dict[str, Any], directory: Path) -> frozenset[int]:
    """Ids that end a text: what the config says, and what its generation settings add."""
    found: set[int] = set()
    generation = directory / "generation_config.json"
    for settings in (raw, _read(generation) if generation.is_file() else {}):
        ids = settings.get("eos_token_id")
        found |= set(ids if isinstance(ids, list) else [] if ids is None else [ids])
    return frozenset(found)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: not a JSON object")
    return found

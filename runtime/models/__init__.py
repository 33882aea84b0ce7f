"""Model architectures and how their weights are loaded."""

import json
from pathlib import Path
from typing import Any

import torch

from ramet.runtime.errors import ModelError
from ramet.runtime.models import sources
from ramet.runtime.models.config import DecoderConfig, is_native
from ramet.runtime.models.llama import LlamaDecoder
from ramet.runtime.models.model import Model, ModelShape, PagedAttention
from ramet.runtime.models.weights import Checkpoint

__all__ = ["DTYPES", "Model", "ModelShape", "PagedAttention", "load_model"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(name: str, *, dtype: str, cache: Path) -> tuple[Model, Path]:
    """Find and load a model; the directory it lies in has its tokenizer too.

    Args:
        name: see `sources.find`.
        dtype: a key of `DTYPES`, for weights, activations and cache.
        cache: where converted models are kept.

    Raises:
        ModelError: unknown model, dtype or architecture, or damaged files.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    directory = sources.find(name, cache)
    raw = _read(directory / "config.json")
    eos = _eos(raw, directory)
    if is_native(raw):
        return _native(raw, directory, DTYPES[dtype], name, eos), directory
    from ramet.runtime.models import hf

    return hf.load(directory, DTYPES[dtype], name, eos), directory


def _native(
    raw: dict[str, Any], directory: Path, dtype: torch.dtype, name: str, eos: frozenset[int]
) -> LlamaDecoder:
    config = DecoderConfig.from_dict(raw)
    shape = ModelShape(
        layers=config.layers,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        vocab=config.vocab,
        context=config.context,
        eos=eos,
        dtype=dtype,
        name=name,
    )
    return LlamaDecoder(config, shape, Checkpoint(directory, dtype))


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

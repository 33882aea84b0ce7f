"""Settings are checked when they are made, and the environment is read in one place."""

from pathlib import Path

import pytest

from ramet.runtime import EngineConfig
from ramet.runtime.errors import EngineError


@pytest.mark.parametrize(
    "field",
    ["block_size", "step_tokens", "max_sequences", "num_blocks", "prefill_chunk", "max_context"],
)
def test_a_number_out_of_range_names_its_field(field: str) -> None:
    with pytest.raises(EngineError, match=f"{field}: 0 is out of range"):
        EngineConfig(**{field: 0})  # type: ignore[arg-type]


def test_an_unknown_device_says_what_there_is() -> None:
    with pytest.raises(EngineError, match="device: 'cuda' is not supported; expected 'cpu'"):
        EngineConfig(device="cuda")


def test_an_unknown_setting_is_an_error() -> None:
    with pytest.raises(TypeError, match="blocksize"):
        EngineConfig(blocksize=8)  # type: ignore[call-arg]


def test_the_models_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAMET_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineConfig().models == tmp_path / "ramet"
    monkeypatch.setenv("RAMET_CACHE", str(tmp_path / "mine"))
    assert EngineConfig().models == tmp_path / "mine"
    assert EngineConfig(cache_dir=tmp_path / "given").models == tmp_path / "given"


def test_blocks_are_sized_from_memory_unless_told() -> None:
    assert EngineConfig(num_blocks=7).blocks(1 << 20) == 7
    sized = EngineConfig().blocks(1 << 20)
    assert 64 <= sized <= 4096
    assert EngineConfig().blocks(1 << 40) == 64

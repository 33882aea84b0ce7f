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


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "mps", "CPU"])
def test_an_unknown_device_says_what_there_is(device: str) -> None:
    with pytest.raises(
        EngineError, match=f"device: '{device}'; expected 'cpu', 'cuda' or 'cuda:N'"
    ):
        EngineConfig(device=device)


def test_int8_is_for_the_cpu() -> None:
    assert EngineConfig(dtype="int8").device == "cpu"
    with pytest.raises(EngineError, match=r"dtype: 'int8' is for device='cpu'.*leave dtype out"):
        EngineConfig(dtype="int8", device="cuda")


def test_kv_dtype_is_checked() -> None:
    assert EngineConfig(device="cuda:1", kv_dtype="float8").kv_dtype == "float8"
    with pytest.raises(EngineError, match="kv_dtype: 'fp8'; expected bfloat16, float16, float8"):
        EngineConfig(device="cuda", kv_dtype="fp8")
    assert EngineConfig(kv_dtype="bfloat16").device == "cpu"
    with pytest.raises(EngineError, match="'float8' needs device='cuda'; on CPU take 'bfloat16'"):
        EngineConfig(kv_dtype="float8")


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

"""A device that is not there says what is missing; dtypes follow from the device."""

from pathlib import Path

import pytest
import torch

from ramet.runtime import devices
from ramet.runtime.devices import default_dtype, device_of, kv_dtype_of
from ramet.runtime.errors import EngineError, ModelError
from ramet.runtime.models import load_model


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine with two of them has it."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


def test_the_cpu_is_there() -> None:
    assert device_of("cpu") == torch.device("cpu")
    assert default_dtype(torch.device("cpu")) == "float32"


def test_a_torch_without_cuda_says_which_wheel_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(
        EngineError, match=r"'cuda:1' needs a torch with CUDA.*the plain Linux wheel"
    ):
        device_of("cuda:1")


def test_no_gpu_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match=r"no usable GPU.*nvidia-smi.*CUDA_VISIBLE_DEVICES.*13.0"):
        device_of("cuda")


@pytest.mark.usefixtures("two_gpus")
def test_a_device_has_its_number() -> None:
    assert device_of("cuda") == torch.device("cuda", 1)
    assert device_of("cuda:0") == torch.device("cuda", 0)
    assert default_dtype(device_of("cuda")) == "bfloat16"


@pytest.mark.usefixtures("two_gpus")
def test_a_number_too_high_names_the_last() -> None:
    with pytest.raises(EngineError, match="'cuda:2' is not there: the last is 'cuda:1'"):
        device_of("cuda:2")


@pytest.mark.usefixtures("two_gpus")
def test_without_triton_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="needs the package triton"):
        device_of("cuda")


def test_keys_and_values_are_kept_as_the_model_computes_unless_told() -> None:
    cpu = torch.device("cpu")
    assert kv_dtype_of(None, torch.float16, cpu) == torch.float16
    assert kv_dtype_of("bfloat16", torch.float32, cpu) == torch.bfloat16
    assert kv_dtype_of("bfloat16", torch.bfloat16, cpu) == torch.bfloat16
    with pytest.raises(EngineError, match=r"on a CPU 'float16' goes with .*computes in bfloat16"):
        kv_dtype_of("float16", torch.bfloat16, cpu)


@pytest.mark.parametrize(
    ("capability", "kv_dtype", "model", "told"),
    [
        ((8, 9), "float8", "bfloat16", None),
        ((9, 0), "float8", "bfloat16", None),
        ((8, 0), None, "bfloat16", None),
        ((7, 5), None, "float16", None),
        ((8, 6), "float8", "bfloat16", r"kv_dtype: float8_e4m3fn .* 8\.9, and cuda:1 has 8\.6"),
        ((7, 5), "bfloat16", "float16", r"kv_dtype: bfloat16 .* 8\.0, .* 7\.5: take float16"),
        ((7, 5), "float16", "bfloat16", r"dtype: bfloat16 .* 8\.0, .* 7\.5: take float16"),
    ],
)
def test_a_gpu_that_is_too_old_for_a_dtype_says_so(
    capability: tuple[int, int],
    kv_dtype: str | None,
    model: str,
    told: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    gpu, dtype = torch.device("cuda", 1), getattr(torch, model)
    if told is None:
        kept = {None: model, "float8": "float8_e4m3fn"}.get(kv_dtype, kv_dtype)
        assert kv_dtype_of(kv_dtype, dtype, gpu) == getattr(torch, str(kept))
        return
    with pytest.raises(EngineError, match=told):
        kv_dtype_of(kv_dtype, dtype, gpu)


@pytest.mark.usefixtures("two_gpus")
def test_a_model_is_not_loaded_to_a_gpu_in_int8(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'int8' is for device='cpu', not 'cuda': take bfloat16"):
        load_model("anything", dtype="int8", cache=tmp_path, device="cuda")

"""Configurations and checkpoints as they come, and what is said when they are wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, GPTJConfig, GptOssConfig, LlamaConfig, MambaConfig

from ramet.runtime.errors import ModelError
from ramet.runtime.models import load_model
from ramet.runtime.models.llama import LlamaDecoder
from tests.runtime.models.paged import paged_logits
from tests.runtime.models.test_forward import assert_close, loaded, texts
from tests.runtime.models.tiny import SHAPE, VOCAB, WINDOW, rope, save, saved, transformers_logits


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """A family's directory that the test may change."""

    def make(family: str = "llama") -> Path:
        shutil.copytree(saved(family), tmp_path / family)
        return tmp_path / family

    return make


Copy = Callable[..., Path]


def edit(folder: Path, *remove: str, **changes: Any) -> Path:
    """Change the config.json."""
    path = folder / "config.json"
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: raw[key] for key in raw if key not in remove}))
    return folder


def run(folder: Path) -> list[torch.Tensor]:
    return paged_logits(loaded(folder), texts(), block_size=16, seed=1)


# -- configurations


@pytest.mark.parametrize("family", ["llama-llama3", "llama-linear", "llama-yarn", "qwen3"])
def test_keys_of_earlier_transformers(family: str, copy: Copy) -> None:
    """`rope_theta` and `rope_scaling` instead of `rope_parameters`."""
    folder = copy(family)
    scaling = json.loads((folder / "config.json").read_text())["rope_parameters"]
    theta, kind = scaling.pop("rope_theta"), scaling["rope_type"]
    if kind == "default":
        scaling = None
    edit(folder, "rope_parameters", rope_theta=theta, rope_scaling=scaling)
    assert_close(saved(family), run(folder))
    if scaling:
        scaling["type"] = scaling.pop("rope_type")  # older still
        edit(folder, rope_scaling=scaling)
        assert_close(saved(family), run(folder))


def test_theta(copy: Copy) -> None:
    folder = edit(copy(), rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    got = run(folder)
    assert_close(folder, got)
    assert not torch.allclose(got[-1], transformers_logits(saved("llama"), texts()[-1]), atol=1e-2)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_factor": 1.3},
        {"mscale": 1.5, "mscale_all_dim": 0.7},
        {"beta_fast": 2.0, "beta_slow": 0.1},
        {"truncate": False},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_yarn_options(changes: dict[str, Any], copy: Copy) -> None:
    folder = copy("llama-yarn")
    scaling = json.loads((folder / "config.json").read_text())["rope_parameters"]
    edit(folder, rope_parameters=scaling | changes)
    got = run(folder)
    assert_close(folder, got)
    plain = transformers_logits(saved("llama-yarn"), texts()[-1])
    assert not torch.allclose(got[-1], plain, atol=1e-2)


def test_windows_bite(copy: Copy) -> None:
    """Without its window Mistral gives something else, but only behind the window's end."""
    wide = transformers_logits(edit(copy("mistral"), sliding_window=None), texts()[-1])
    narrow = run(saved("mistral"))[-1]
    torch.testing.assert_close(narrow[:WINDOW], wide[:WINDOW], rtol=0, atol=1e-4)
    assert ((narrow - wide)[WINDOW:].abs().amax(-1) > 1e-2).all()


@pytest.mark.parametrize(
    ("family", "remove", "changes"),
    [
        ("llama", [], {"sliding_window": WINDOW}),  # Llama has none, whatever is written there
        ("qwen2", ["layer_types"], {"sliding_window": WINDOW, "use_sliding_window": False}),
        (
            "qwen2",
            ["layer_types", "use_sliding_window"],
            {"sliding_window": 8, "max_window_layers": 0},
        ),
        (
            "qwen3",
            ["layer_types", "use_sliding_window"],
            {"sliding_window": 8, "max_window_layers": 0},
        ),
        ("qwen2-windows", ["layer_types"], {}),
        ("qwen2-windows", ["layer_types"], {"max_window_layers": 2}),
        ("qwen2-windows", ["layer_types"], {"max_window_layers": 28}),
        ("mistral", ["sliding_window"], {}),  # 4096
        ("mistral", [], {"sliding_window": None}),
        ("mistral", [], {"layer_types": ["full_attention"] * 3}),
        ("mistral", [], {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}),
    ],
)
def test_windows_are_on_when_transformers_says_so(
    family: str, remove: list[str], changes: dict[str, Any], copy: Copy
) -> None:
    folder = edit(copy(family), *remove, **changes)
    assert_close(folder, run(folder))


def test_what_a_configuration_leaves_out(copy: Copy) -> None:
    folder = edit(
        copy("llama"),
        *("head_dim", "rope_parameters", "tie_word_embeddings", "hidden_act", "attention_bias"),
    )
    assert_close(folder, run(folder))


def test_end_of_text_ids_come_from_both_files(copy: Copy) -> None:
    folder = edit(copy(), eos_token_id=3)
    assert loaded(folder).shape.eos == {3}
    (folder / "generation_config.json").write_text('{"eos_token_id": [4, 5]}')
    assert loaded(folder).shape.eos == {3, 4, 5}
    (folder / "generation_config.json").write_text('{"eos_token_id": null}')
    assert loaded(folder).shape.eos == {3}


# -- checkpoints


def test_shards(tmp_path: Path) -> None:
    save(LlamaConfig(**SHAPE), tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_close(saved("llama"), run(tmp_path))


def test_files_that_the_index_does_not_name_are_not_read(tmp_path: Path) -> None:
    save(LlamaConfig(**SHAPE), tmp_path, max_shard_size="100KB")
    (tmp_path / "other.safetensors").write_bytes(b"something else")
    assert_close(saved("llama"), run(tmp_path))


def test_missing_shard(tmp_path: Path) -> None:
    save(LlamaConfig(**SHAPE), tmp_path, max_shard_size="100KB")
    gone = sorted(tmp_path.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(ModelError, match=rf"names '{gone.name}', which is not there"):
        loaded(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_damaged_index(text: str, tmp_path: Path) -> None:
    save(LlamaConfig(**SHAPE), tmp_path, max_shard_size="100KB")
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json"):
        loaded(tmp_path)


def test_no_weights(copy: Copy) -> None:
    folder = copy()
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ModelError, match="pickled weights are not loaded"):
        loaded(folder)


def damages() -> dict[str, Callable[[bytes], bytes]]:
    return {
        "empty": lambda data: b"",
        "cut in the header": lambda data: data[:100],
        "cut in the data": lambda data: data[:-1000],
        "header length": lambda data: b"\xff" * 8 + data[8:],
        "header text": lambda data: data[:8] + b"x" + data[9:],
        "text": lambda data: b"<html>not found</html>",
    }


@pytest.mark.parametrize("damage", damages())
def test_damaged_weights(damage: str, copy: Copy) -> None:
    path = copy() / "model.safetensors"
    path.write_bytes(damages()[damage](path.read_bytes()))
    with pytest.raises(ModelError, match=r"model\.safetensors: not a readable safetensors file"):
        loaded(path.parent)


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.2.mlp.up_proj.weight",
        "model.layers.0.input_layernorm.weight",
    ],
)
def test_missing_tensor(name: str, copy: Copy) -> None:
    path = copy() / "model.safetensors"
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path)
    with pytest.raises(ModelError, match=f"has no tensor '{name}'"):
        loaded(path.parent)


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_missing_bias(name: str, copy: Copy) -> None:
    """One of three: no family has that."""
    path = copy("qwen2") / "model.safetensors"
    tensors = load_file(path)
    del tensors[f"model.layers.1.self_attn.{name}_proj.bias"]
    save_file(tensors, path)
    with pytest.raises(ModelError, match=rf"layers\.1\.self_attn\.{name}_proj\.bias"):
        loaded(path.parent)


@pytest.mark.parametrize(
    "name",
    ["model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.down_proj.weight"],
)
def test_tensor_of_another_shape(name: str, copy: Copy) -> None:
    """Found when loading, not in the first forward."""
    path = copy() / "model.safetensors"
    tensors = load_file(path)
    tensors[name] = tensors[name][:-1].contiguous()
    save_file(tensors, path)
    with pytest.raises(ModelError, match=f"'{name}' has shape"):
        loaded(path.parent)


def test_weights_that_transformers_reads(copy: Copy) -> None:
    """The same, said of a family that is not native; transformers would make tensors up."""
    folder = copy("gpt2")
    path = folder / "model.safetensors"
    data = path.read_bytes()
    tensors = load_file(path)
    lost = tensors.pop("transformer.h.1.attn.c_attn.bias")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"has no tensor 'transformer\.h\.1\.attn\.c_attn\.bias'"):
        loaded(folder)
    tensors["transformer.h.1.attn.c_attn.bias"] = lost[:-1].contiguous()
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="transformers cannot load"):
        loaded(folder)
    path.write_bytes(data[:-1000])
    with pytest.raises(ModelError, match="transformers cannot load"):
        loaded(folder)


def test_transformers_is_not_asked_for_a_pickle(copy: Copy) -> None:
    folder = copy("gpt2")
    path = folder / "model.safetensors"
    torch.save(load_file(path), folder / "pytorch_model.bin")
    path.unlink()
    with pytest.raises(ModelError, match="transformers cannot load"):
        loaded(folder)


def test_tied_weights_are_stored_once() -> None:
    tensors = load_file(saved("llama-tied") / "model.safetensors")
    assert "lm_head.weight" not in tensors
    assert "lm_head.weight" in load_file(saved("llama") / "model.safetensors")


# -- what is not a model


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model("smolm2", dtype="float32", cache=tmp_path)
    for tried in ("'smolm2'", "smollm2-135m", "existing directory", ".gguf file", "owner/name"):
        assert tried in str(caught.value)


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown model"):
        loaded(tmp_path / "none")


def test_directory_without_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a directory without a config\.json"):
        loaded(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "\x00"])
def test_damaged_config(text: str, copy: Copy) -> None:
    folder = copy()
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json: not (readable as JSON|a JSON object)"):
        loaded(folder)


@pytest.mark.parametrize("dtype", ["float64", "int4", "FLOAT32", "", "torch.float32"])
def test_unknown_dtype(dtype: str) -> None:
    with pytest.raises(ModelError, match="expected one of float32, bfloat16, float16, int8"):
        loaded(saved("llama"), dtype)


@pytest.mark.parametrize("kind", ["perceptron", None, 3])
def test_unknown_architecture(kind: object, copy: Copy) -> None:
    with pytest.raises(ModelError, match="transformers cannot load"):
        loaded(edit(copy(), model_type=kind))


REFUSED = {
    "bloom": (
        lambda: BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4),
        "layers must all attend, alike; saw none",
    ),
    "mamba": (
        lambda: MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2),
        "layers of type 'linear_attention' are not supported",
    ),
    "dynamic": (
        lambda: LlamaConfig(**SHAPE, rope_parameters=rope("dynamic", factor=2.0)),
        "rope type 'dynamic' changes with the longest sequence",
    ),
    "gptj": (
        lambda: GPTJConfig(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
        "transformers cannot load",
    ),
    "gpt-oss": (
        lambda: GptOssConfig(**SHAPE, head_dim=16, num_local_experts=4, sliding_window=8),
        "GptOssAttention has attention sinks",
    ),
}


@pytest.mark.parametrize("family", REFUSED)
def test_attention_that_ours_cannot_replace(family: str, tmp_path: Path) -> None:
    """Positions in the scores, no attention at all, sinks, sequences that depend on each other:
    refused when loaded, not run wrongly."""
    config, words = REFUSED[family]
    save(config(), tmp_path)
    with pytest.raises(ModelError, match=words):
        loaded(tmp_path)


@pytest.mark.parametrize("data", [b"", b"GGUF", b"GGUF" + b"\xff" * 100, b"something else" * 100])
def test_damaged_gguf(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"cannot read this GGUF file"):
        load_model(str(path), dtype="float32", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == [], "nothing half done is left"


@pytest.mark.parametrize("key", ["vocab_size", "num_hidden_layers", "rms_norm_eps"])
def test_missing_setting(key: str, copy: Copy) -> None:
    with pytest.raises(ModelError, match=rf"config\.json has no '{key}'"):
        loaded(edit(copy(), key))


def test_senseless_setting_that_transformers_reads(copy: Copy) -> None:
    with pytest.raises(ModelError, match="transformers cannot load"):
        loaded(edit(copy("gpt2"), n_embd="wide"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", "big"),
        ("num_attention_heads", 0),
        ("num_hidden_layers", None),
        ("rms_norm_eps", []),
        ("rope_parameters", 3),
        ("rope_parameters", {"rope_type": "llama3"}),
        ("sliding_window", "narrow"),
        ("layer_types", 3),
    ],
)
def test_senseless_setting(key: str, value: object, copy: Copy) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        loaded(edit(copy("mistral"), **{key: value}))


def test_the_embedded_model_is_converted_once(models_cache: Path) -> None:
    first = load_model("smollm2-135m", dtype="float32", cache=models_cache)[1]
    written = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    model, second = load_model("smollm2-135m", dtype="float32", cache=models_cache)
    assert second == first
    assert {path: path.stat().st_mtime_ns for path in second.rglob("*")} == written
    assert isinstance(model, LlamaDecoder)
    assert model.shape.layers == 30

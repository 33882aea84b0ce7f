"""Tiny random models of each family, and what transformers computes with them.

Weights are drawn so that a greedy text wanders instead of repeating itself, and so that the two
best logits are almost never close: a difference then means a mistake, not a rounding.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

VOCAB = 257  # the byte tokenizer's
CONTEXT = 512
WINDOW = 8

SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}


def rope(kind: str, **numbers: float) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": 10000.0, **numbers}


LLAMA3 = rope(
    "llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
YARN = rope("yarn", factor=8.0, original_max_position_embeddings=64)

# What runs on the native decoder.
NATIVE: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "llama-tied": lambda: LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama-biased": lambda: LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "llama-mqa": lambda: LlamaConfig(**{**SHAPE, "num_key_value_heads": 1}),
    "llama-llama3": lambda: LlamaConfig(**SHAPE, rope_parameters=LLAMA3),
    "llama-linear": lambda: LlamaConfig(**SHAPE, rope_parameters=rope("linear", factor=4.0)),
    "llama-yarn": lambda: LlamaConfig(**SHAPE, rope_parameters=YARN),
    "mistral": lambda: MistralConfig(**SHAPE, sliding_window=WINDOW),
    "qwen2": lambda: Qwen2Config(**SHAPE),
    "qwen2-windows": lambda: Qwen2Config(
        **SHAPE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": lambda: Qwen3Config(**SHAPE, head_dim=20),
}

GEMMA = SHAPE | {
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": WINDOW,
    "tie_word_embeddings": False,
}

# What runs through transformers, with its attention replaced.
OTHERS: dict[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB,
        n_embd=48,
        n_layer=3,
        n_head=4,
        n_positions=CONTEXT,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    ),
    "gemma2": lambda: Gemma2Config(**GEMMA, attn_logit_softcapping=5.0),
    "gemma3": lambda: Gemma3TextConfig(**GEMMA),
}

FAMILIES = NATIVE | OTHERS

_folders = TemporaryDirectory(prefix="ramet-tiny-")


@cache
def saved(family: str) -> Path:
    """A directory with a random model of the family; do not write there."""
    folder = Path(_folders.name) / family
    save(FAMILIES[family](), folder)
    return folder


def save(config: PreTrainedConfig, folder: Path, **options: Any) -> None:
    """Draw the weights of a configuration and save them as transformers does."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config)
        for name, weight in module.named_parameters():
            weight.data = _drawn(name, weight)
        module.save_pretrained(folder, **options)


def _drawn(name: str, weight: Tensor) -> Tensor:
    """Norms and biases a fifth off what they start as; matrices that keep the size of a row."""
    if weight.dim() == 1:  # norms and biases
        return weight + 0.2 * torch.randn_like(weight)
    noise = torch.randn_like(weight)
    if "embed" in name or "wte" in name or "wpe" in name:
        return 0.3 * noise
    inputs = weight.shape[0 if ".c_" in name else -1]  # GPT-2's are transposed
    return 2.0 * noise / inputs**0.5


@cache
def transformers_model(folder: Path) -> Any:
    """The model as transformers runs it in float32, attention written out."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.inference_mode()
def transformers_logits(folder: Path, tokens: Sequence[int]) -> Tensor:
    """`[tokens, vocab]`"""
    return transformers_model(folder)(torch.tensor([tokens])).logits[0]

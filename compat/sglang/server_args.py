"""How SGLang's engine is set up, and what that means for this one."""

import argparse
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from ramet.compat.sglang.errors import UnsupportedError
from ramet.errors import near_miss

__all__ = ["ServerArgs"]

_DTYPES = {"auto": "float32", "half": "float16", "float": "float32"}


# Settings of which this engine has one way.
_ONE_WAY = (
    "tp_size dp_size pp_size nnodes is_embedding quantization speculative_algorithm lora_paths "
    "json_model_override_args"
).split()


@dataclass
class ServerArgs:
    """Settings by SGLang's names. Those without effect here are taken and ignored; those that
    ask for what is not here are refused when an engine is made."""

    model_path: str = "smollm2-135m"
    tokenizer_path: str | None = None
    dtype: str = "auto"
    context_length: int | None = None
    device: str | None = None
    random_seed: int | None = None
    chat_template: str | None = None
    page_size: int | None = None
    max_total_tokens: int | None = None
    max_running_requests: int | None = None
    chunked_prefill_size: int | None = None
    max_prefill_tokens: int | None = None
    disable_radix_cache: bool = False
    # one way
    tp_size: int = 1
    dp_size: int = 1
    pp_size: int = 1
    nnodes: int = 1
    is_embedding: bool = False
    quantization: str | None = None
    speculative_algorithm: str | None = None
    lora_paths: Any = None
    json_model_override_args: str = "{}"
    # without effect
    host: str = "127.0.0.1"
    port: int = 30000
    log_level: str = "error"
    tokenizer_mode: str = "auto"
    trust_remote_code: bool = False
    mem_fraction_static: float | None = None
    served_model_name: str | None = None
    attention_backend: str | None = None
    sampling_backend: str | None = None
    grammar_backend: str | None = None
    reasoning_parser: str | None = None
    schedule_policy: str = "fcfs"
    cuda_graph_max_bs: int | None = None
    disable_cuda_graph: bool = False
    enable_torch_compile: bool = False
    load_format: str = "auto"
    download_dir: str | None = None
    watchdog_timeout: float = 300
    skip_tokenizer_init: bool = False
    enable_metrics: bool = False
    api_key: str | None = None

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Self:
        """Raises `TypeError` for a name that is no setting."""
        known = {each.name for each in fields(cls)}
        for name in settings:
            if name not in known:
                raise TypeError(f"unknown setting {name!r}{near_miss(name, known)}")
        return cls(**settings)

    def engine_settings(self) -> dict[str, Any]:
        """The fields of `EngineConfig`. Raises `UnsupportedError` for what is not here."""
        for each in fields(self):
            if each.name in _ONE_WAY and getattr(self, each.name) != each.default:
                raise UnsupportedError(
                    f"{each.name}={getattr(self, each.name)!r} is not supported: "
                    f"this engine has {each.default!r} only"
                )
        if self.tokenizer_path not in (None, self.model_path):
            raise UnsupportedError("tokenizer_path: the tokenizer comes from model_path")
        block = self.page_size or 16
        settings = {
            "model": self.model_path,
            "dtype": _DTYPES.get(self.dtype, self.dtype),
            "device": self.device or "cpu",
            "sharing": not self.disable_radix_cache,
            "block_size": block,
            "num_blocks": self.max_total_tokens and -(-self.max_total_tokens // block),
            "max_context": self.context_length,
            "max_sequences": self.max_running_requests,
            "prefill_chunk": self.chunked_prefill_size,
            "step_tokens": self.max_prefill_tokens,
            "seed": self.random_seed,
        }
        return {name: value for name, value in settings.items() if value is not None}

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser) -> None:
        """An option for every setting: `--model-path` and so on."""
        for each in fields(ServerArgs):
            option = f"--{each.name.replace('_', '-')}"
            names = [option, *({"model_path": ["--model"], "tp_size": ["--tp"]}.get(each.name, []))]
            if isinstance(each.default, bool):
                parser.add_argument(*names, dest=each.name, action="store_true")
            else:
                kind = type(each.default) if each.default is not None else _number
                parser.add_argument(*names, dest=each.name, type=kind, default=each.default)

    @classmethod
    def from_cli_args(cls, args: argparse.Namespace) -> Self:
        return cls(**{each.name: getattr(args, each.name) for each in fields(cls)})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text

"""What benchmark programs written for SGLang import: their options, and the backend they name."""

import argparse
import unittest
from collections.abc import Sequence
from typing import Any, NoReturn

from ramet.compat.sglang.errors import UnsupportedError
from ramet.compat.sglang.global_config import global_config
from ramet.compat.sglang.state import ProgramState
from ramet.compat.sglang.utils import dump_raw, normalize_base_url

__all__ = [
    "DEFAULT_MODEL_NAME_FOR_TEST",
    "DEFAULT_URL_FOR_TEST",
    "CustomTestCase",
    "add_common_sglang_args_and_parse",
    "dump_bench_raw_result",
    "popen_launch_server",
    "select_sglang_backend",
]

DEFAULT_MODEL_NAME_FOR_TEST = "smollm2-135m"
DEFAULT_URL_FOR_TEST = "http://127.0.0.1:30000"


def add_common_sglang_args_and_parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options that all such programs have. `--backend local` runs in this process."""
    parser.add_argument("--parallel", type=int, default=64)
    parser.add_argument("--host", type=str, default="http://127.0.0.1")
    parser.add_argument("--port", type=int, default=30000)
    parser.add_argument("--backend", type=str, default="srt")
    parser.add_argument("--model-path", type=str, default=DEFAULT_MODEL_NAME_FOR_TEST)
    parser.add_argument("--device", type=str, default="auto")
    parser.add_argument("--result-file", type=str, default="result.jsonl")
    parser.add_argument("--raw-result-file", type=str)
    return parser.parse_args()


def select_sglang_backend(args: argparse.Namespace) -> Any:
    """`srt...`: a server; `local`: an engine here; `gpt-...`: OpenAI. Raises `ValueError`."""
    name: str = args.backend
    if name.startswith("srt"):
        from ramet.compat.sglang.backend.runtime_endpoint import RuntimeEndpoint

        if name == "srt-no-parallel":
            global_config.enable_parallel_encoding = False
        return RuntimeEndpoint(normalize_base_url(args.host, args.port))
    if name == "local":
        from ramet.compat.sglang.runtime import Runtime

        return Runtime(model_path=getattr(args, "model_path", DEFAULT_MODEL_NAME_FOR_TEST))
    if name.startswith("gpt-"):
        from ramet.compat.sglang.backend.openai import OpenAI

        return OpenAI(name)
    raise ValueError(f"unknown backend {name!r}: expected srt, local or gpt-...")


def dump_bench_raw_result(
    path: str | None, states: Sequence[ProgramState | str], preds: Sequence[Any], labels: Any
) -> None:
    """A line of JSON for each state: its text, what was predicted, and what was right."""
    if not path:
        return
    rows = [
        {
            "prompt_id": index,
            "prompt": "",
            "output": state if isinstance(state, str) else state.text(),
            "correct": bool(preds[index] == labels[index]),
        }
        for index, state in enumerate(states)
    ]
    dump_raw(path, rows)


class CustomTestCase(unittest.TestCase):
    """A test case; nothing more is needed here."""


def popen_launch_server(*args: Any, **kwargs: Any) -> NoReturn:
    raise UnsupportedError("no server is started here; use Runtime(model_path=...)")

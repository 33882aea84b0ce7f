"""What programs import: names, modules, and what that loads."""

import importlib
import json
import re
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest

import ramet.compat.sglang as sgl
from ramet.compat.sglang.srt.constrained.outlines_backend import build_regex_from_object
from ramet.compat.sglang.test.test_utils import (
    add_common_sglang_args_and_parse,
    dump_bench_raw_result,
    select_sglang_backend,
)
from ramet.compat.sglang.utils import dump_state_text, normalize_base_url, read_jsonl
from tests.compat.conftest import Scripted

NAMES = (
    "function gen gen_int gen_string select image video system user assistant system_begin "
    "system_end user_begin user_end assistant_begin assistant_end separate_reasoning Runtime "
    "RuntimeEndpoint Engine ServerArgs set_default_backend flush_cache get_server_info "
    "global_config token_length_normalized greedy_token_selection "
    "unconditional_likelihood_normalized OpenAI Anthropic LiteLLM VertexAI Crusoe __version__"
).split()
MODULES = {
    "api": "set_default_backend",
    "lang.api": "set_default_backend gen flush_cache",
    "lang.ir": "REGEX_INT REGEX_FLOAT REGEX_BOOL REGEX_STR SglGen SglExprList SglSeparateReasoning "
    "SglSamplingParams SglFunction",
    "lang.choices": "greedy_token_selection ChoicesDecision",
    "lang.chat_template": "get_chat_template ChatTemplate",
    "lang.interpreter": "ProgramState StreamExecutor",
    "lang.tracer": "trace_program",
    "lang.backend.base_backend": "BaseBackend",
    "lang.backend.runtime_endpoint": "RuntimeEndpoint",
    "lang.backend.openai": "OpenAI",
    "lang.backend.anthropic": "Anthropic",
    "lang.backend.litellm": "LiteLLM",
    "lang.backend.vertexai": "VertexAI",
    "lang.backend.crusoe": "Crusoe",
    "backend.runtime_endpoint": "RuntimeEndpoint",
    "backend.openai": "OpenAI",
    "backend.anthropic": "Anthropic",
    "global_config": "global_config",
    "utils": "read_jsonl dump_state_text download_and_cache_file normalize_base_url http_request "
    "print_highlight wait_for_server terminate_process launch_server_cmd",
    "test.test_utils": "add_common_sglang_args_and_parse select_sglang_backend CustomTestCase "
    "dump_bench_raw_result DEFAULT_MODEL_NAME_FOR_TEST popen_launch_server",
    "srt.constrained.outlines_backend": "build_regex_from_object",
    "srt.utils": "load_image is_hip kill_process_tree",
    "srt.utils.hf_transformers_utils": "get_tokenizer",
    "srt.server_args": "ServerArgs",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_package_has_the_name(name: str) -> None:
    assert getattr(sgl, name) is not None
    assert name in sgl.__all__


@pytest.mark.parametrize("module", MODULES)
def test_the_module_has_its_names(module: str) -> None:
    found = importlib.import_module(f"ramet.compat.sglang.{module}")
    for name in MODULES[module].split():
        assert hasattr(found, name), name


def test_an_import_loads_neither_torch_nor_http() -> None:
    code = (
        "import sys, ramet.compat.sglang, ramet.compat.sglang.lang.ir, "
        "ramet.compat.sglang.lang.interpreter, ramet.compat.sglang.test.test_utils; "
        "print({'torch', 'ramet.runtime', 'httpx2', 'transformers'} & {*sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_what_is_not_here_says_what_to_use() -> None:
    for name in ("Anthropic", "LiteLLM", "VertexAI", "Crusoe"):
        with pytest.raises(NotImplementedError, match=r"OpenAI\(model, base_url"):
            getattr(sgl, name)("model")
    with pytest.raises(AttributeError, match="nothing"):
        sgl.nothing  # noqa: B018


# -- helpers


def test_files_of_lines(tmp_path: Path, scripted: Scripted) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n# no\n{"a": 2}\n')
    assert read_jsonl(path)[1:] == [{"a": 2}]

    @sgl.function
    def program(s: Any) -> None:
        s += "text" + sgl.gen("x")

    states = [program.run(), program.run()]
    dump_state_text(tmp_path / "out.txt", states)
    assert (tmp_path / "out.txt").read_text().count("textok") == 2
    dump_bench_raw_result(str(tmp_path / "raw.jsonl"), states, [1, 2], [1, 1])
    rows = [json.loads(line) for line in (tmp_path / "raw.jsonl").read_text().splitlines()]
    assert [row["correct"] for row in rows] == [True, False]
    assert rows[0]["output"] == "textok"


def test_addresses() -> None:
    assert normalize_base_url("http://localhost", 3) == "http://localhost:3"
    assert normalize_base_url("localhost", 3) == "http://localhost:3"
    assert normalize_base_url("https://host:5/", 3) == "https://host:5"


def test_options_of_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--parallel", "2", "--backend", "nobody"])
    args = add_common_sglang_args_and_parse(ArgumentParser())
    assert (args.parallel, args.port, args.host) == (2, 30000, "http://127.0.0.1")
    with pytest.raises(ValueError, match="nobody"):
        select_sglang_backend(args)


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "house": {"enum": ["red", "blue"]},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/Pet"}, "maxItems": 2},
        "score": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "$defs": {"Pet": {"type": "object", "properties": {"legs": {"type": "integer"}}}},
}


def test_a_pattern_for_json() -> None:
    pattern = build_regex_from_object(json.dumps(SCHEMA))
    value = {"name": 'A "b"', "age": 11, "house": "red", "pets": [{"legs": 4}], "score": 1.5}
    assert re.fullmatch(pattern, json.dumps(value))
    assert re.fullmatch(pattern, json.dumps(value | {"pets": [], "score": None}))
    assert re.fullmatch(pattern, json.dumps(value, separators=(",", ":")))
    for wrong in ({"age": "x"}, {"house": "green"}, {"pets": [{"legs": 1}] * 3}):
        assert not re.fullmatch(pattern, json.dumps(value | wrong))
    least = build_regex_from_object({"type": "array", "items": {"type": "null"}, "minItems": 2})
    assert [bool(re.fullmatch(least, t)) for t in ("[null]", "[null, null]")] == [False, True]


def test_a_schema_that_has_no_pattern() -> None:
    tree = {"$defs": {"T": {"type": "array", "items": {"$ref": "#/$defs/T"}}}, "$ref": "#/$defs/T"}
    with pytest.raises(NotImplementedError, match="itself"):
        build_regex_from_object(tree)
    with pytest.raises(NotImplementedError, match="json_schema"):
        build_regex_from_object({"type": "object"})

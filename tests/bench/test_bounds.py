"""What bounds a workload: counted by hand, and on the page."""

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
pytest.importorskip("matplotlib")
bounds: Any = import_module("bounds")
report: Any = import_module("report")
records: Any = import_module("reporting.records")

LIMIT = {"float32": 2e9, "int8": 8e9, "read": 1e9}
WEIGHTS = bounds.WEIGHTS + bounds.LAST


def test_a_step_takes_as_long_as_its_products_or_as_its_weights() -> None:
    few, many = bounds.Step(1, 1), bounds.Step(100, 0)
    read = WEIGHTS * 4 / 1e9
    assert bounds.least([few], "float32", LIMIT) == pytest.approx(read)
    products = 2 * 100 * bounds.WEIGHTS / 2e9
    assert bounds.least([few, many], "float32", LIMIT) == pytest.approx(read + products)
    assert bounds.least([many], "int8", LIMIT) == pytest.approx(products / 4)


def test_a_target_needs_more_than_the_best_of_vllm() -> None:
    work = SimpleNamespace(name="a", targets={"float32/vllm": 2.0, "int8/llama.cpp": 1.0})
    peers = {"a": {"per_s": {"vllm bfloat16": 3.0, "vllm float32": 2.0, "llama.cpp Q4_1": 9.0}}}
    assert bounds.needed(work, peers) == {"float32": 6.0}
    assert bounds.needed(work, {}) == {}


def test_a_target_that_nobody_can_have_is_bold() -> None:
    row = {
        "workload": "a",
        "unit": "tokens",
        "at_most": {"float32": 10.0, "int8": 40.0},
        "per_s": {"float32": 5.0, "int8": 10.0},
        "needed": {"float32": 12.0, "int8": 30.0},
    }
    record = records.Record("bounds", "bounds", [row], {"commit": "abc"}, {"ceilings": LIMIT})
    page, _ = report.page({"bounds": record})
    assert "| a | tokens | float32 | 10.0 | **12.0** | 5.00 | 50 % |" in page
    assert "| a | tokens | int8 | 40.0 | 30.0 | 10.0 | 25 % |" in page

"""SECURITY.md: every promise has a test, and every test that it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from ramet.runtime.server import ServerConfig
from ramet.runtime.server.middleware import OPEN

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "SECURITY.md").read_text()
TEST = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")
PROMISED = re.findall(r"^\| ((?!who|what|promise|---).*?) \| (.*?) \|$", PAGE, re.MULTILINE)
PROMISES = [(says, tests) for says, tests in PROMISED if "tests/" in tests or says.endswith(".")]


@cache
def defined_in(path: str) -> frozenset[str]:
    """The tests that a file defines at its top, as pytest collects them."""
    tree = ast.parse((ROOT / path).read_text())
    functions = ast.FunctionDef, ast.AsyncFunctionDef
    return frozenset(node.name for node in tree.body if isinstance(node, functions))


def test_there_are_promises() -> None:
    assert len(PROMISES) >= 40
    assert len(TEST.findall(PAGE)) >= 80


@pytest.mark.parametrize(("says", "tests"), PROMISES, ids=[says[:50] for says, _ in PROMISES])
def test_every_promise_is_held_by_tests(says: str, tests: str) -> None:
    named = TEST.findall(tests)
    assert named, f"no test holds: {says}"
    assert re.sub(r"[`, ]", "", TEST.sub("", tests)) == "", "nothing but tests stands there"
    for each in named:
        path, _, name = each.partition("::")
        assert name in defined_in(path), each


def test_the_names_are_not_of_tests_that_are_left_out() -> None:
    for each in sorted({*TEST.findall(PAGE)}):
        path, _, name = each.partition("::")
        node = next(
            node
            for node in ast.parse((ROOT / path).read_text()).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        )
        marks = [ast.unparse(mark) for mark in node.decorator_list]
        assert not any("skip(" in mark or "xfail" in mark for mark in marks), each


def test_what_is_said_of_the_server_is_so() -> None:
    assert ServerConfig().host == "127.0.0.1"
    assert sorted(OPEN) == ["/health", "/ready"]
    for path in OPEN:
        assert f"`{path}`" in PAGE


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / target).exists(), target

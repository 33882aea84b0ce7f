"""Types made to cost much are answered soon, within little memory, and leave no work behind.

Times are CPU time of a process that does nothing else: what an idle machine's clock would say.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.grammar.bombs import BOMBS

ROOT = Path(__file__).parents[3]
SECONDS, MIB = 1.2, 256
EVERYDAY = [
    "counts of counts",
    "negations",
    "deep choices",
    "a ring of references",
    "all of many patterns",
    "many multiples",
    "rules in a row",
    "intersections",
]
REFUSED = {"negations", "all of many patterns", "many multiples", "intersections", "deep choices"}


def measured(names: list[str]) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.runtime.grammar.bombs", *names]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def hold(row: dict[str, Any]) -> None:
    assert "answer" in row, row
    assert row["compiled"] <= SECONDS, row
    assert row["step"] <= SECONDS, row
    assert row["mib"] <= MIB, row
    assert row["later"] <= 0.05, row


def test_there_are_enough() -> None:
    assert len(BOMBS) >= 60


def test_some_of_each_kind() -> None:
    rows = measured(EVERYDAY)
    assert [row["name"] for row in rows] == EVERYDAY
    for row in rows:
        hold(row)
        if row["name"] in REFUSED:
            assert row["answer"].startswith("GrammarError"), row


@pytest.mark.slow
def test_all_of_them() -> None:
    rows = measured(list(BOMBS))
    assert [row["name"] for row in rows] == list(BOMBS)
    for row in rows:
        hold(row)

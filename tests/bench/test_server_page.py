"""The page's sections on the server, from rows as bench/server.py makes them."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
pytest.importorskip("matplotlib")
pytest.importorskip("openai")
report: Any = import_module("report")
records: Any = import_module("reporting.records")
timing, soak = (import_module(f"serving.{name}") for name in ("timing", "soak"))

STATE: dict[str, Any] = {
    "audit": "clean",
    "held": {"tasks": 4, "turns": 0},
    "engine": {"steps": 9},
    "threads": {},
}


def made(name: str, rows: list[dict[str, Any]]) -> str:
    record = records.Record(name, name, rows, {"commit": "abc"}, {"versions": {"uvicorn": "1"}})
    page, _ = report.page({name: record})
    assert "uvicorn 1" in page
    title = next(each.title for each in report.SECTIONS if each.result == name)
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def soaked(wrong: dict[str, int], held: int) -> dict[str, Any]:
    run = soak.Soak.__new__(soak.Soak)
    run.kinds, run.statuses = soak.Counter(gen=9_000, bad=1_000), soak.Counter({"200": 9_000})
    run.statuses["503"], run.wrong, run.left, run.ms = 7, soak.Counter(wrong), 3, [1.0, 2.0]
    run.memory = [(1e4 * at, (100 + at / 2) * 2**20) for at in range(10)]
    end = STATE | {"held": {"tasks": 4 + held, "turns": 0}}
    return soak.record(run, 8, 60.0) | soak.ending(end, STATE, 200)


def test_a_soak_that_is_well() -> None:
    text = made("server-soak", [soaked({}, 0)])
    assert "10,000 requests" in text.replace("\n", " ")
    assert "| memory for each 10,000 requests | 0.50 ± 0.00 MiB | at most 1 MiB | yes |" in text
    assert "**no**" not in text
    assert "performance-soak.svg" in text


def test_a_soak_that_is_not() -> None:
    text = made("server-soak", [soaked({"gen: 500": 2}, 1)])
    assert "| answers that may not be, broken connections | 2 | 0 | **no** |" in text
    assert "| held more than at the start | tasks 1 | nothing | **no** |" in text


def test_what_time_tells_is_as_much_when_it_is_the_wrong_way_round() -> None:
    late, early = [2.0, 2.1, 2.2], [1.0, 1.1, 1.2]
    rows = [timing.row("across", late, early), timing.row("within", early, late)]
    text = made("server-timing", rows)
    assert "| another tenant | 6 | 0 | 0.000 to 0.000 | at most 0.55 | **no** |" in text
    assert "| the same tenant | 6 | 1.00 | 1.000 to 1.000 | at least 0.95 | yes |" in text


def test_overload_without_any_refusal() -> None:
    none = {f"{name}_{share}_ms": None for name in ("refused", "late") for share in ("p50", "p99")}
    row = {
        "workload": "w",
        "model": "m",
        "peak_per_s": 30.0,
        "sent_per_s": 120.0,
        "goodput_per_s": 27.0,
        "goodput": 0.9,
        "done_p50_ms": 2000.0,
        "statuses": {"200": 40, "503": 2},
        "targets": {"refused_p99_ms": 50.0, "goodput": 0.95},
    }
    text = made("server-overload", [row | none])
    assert "| done under overload, of the peak | 90.0 % | at least 95 % | **no** |" in text
    assert "| time to a refusal, 99th percentile | – | at most 50.0 ms | – |" in text
    assert "40 × 200, 2 × 503" in text


def test_calls_and_streams() -> None:
    seconds = {"program": 1.0, "in_turn": 3.0, "at_once": 1.5}
    row = {"dtype": "int8", "tokens": 4, "round_trip_ms": 20, "seconds": seconds}
    row |= {"ratio_in_turn": 3.0, "ratio_at_once": 1.5, "equal_texts": "12/12"}
    text = made("server-calls", [row])
    assert "| int8 | 4 | 20 | 1.00 | 3.00 | 1.50 | 3.00× | 1.50× | 12/12 |" in text
    parts = {"engine": 0.5, "others": 0.9, "loop": 0.1}
    row = {
        "dtype": "int8",
        "streams": 64,
        "tokens": 64,
        "tokens_per_s": {"http": 450.0, "stream": 480.0, "run": 500.0},
        "ratio": 0.9,
        "ratio_to_stream": 0.94,
        "target": 0.9,
        "us_of_loop_per_token": 170.0,
        "cpu": {"http": parts | {"client": 0.05}, "stream": parts, "run": parts},
    }
    text = made("server-streams", [row])
    assert "| 450 | 480 | 500 | 0.900× | 0.900× | yes |" in text
    assert "| int8 | SSE | 0.500 | 0.900 | 0.100 | 0.050 |" in text
    assert "| int8 | engine | 0.500 | 0.900 | 0.100 | – |" in text

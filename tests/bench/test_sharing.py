"""What bench/sharing.py computes: lengths of requests, and blocks that are worked out by hand."""

import sys
from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
bench: Any = import_module("sharing")


def measured(method: str, width: int, lengths: list[tuple[int, int]]) -> Any:
    model, tokenizer = bench.Bigrams(257), bench.byte_tokenizer()
    return bench.measure(model, tokenizer, method, width, bench.letters(lengths))


@pytest.mark.parametrize("trace", bench.TRACES, ids=lambda trace: trace.name)
def test_lengths_have_the_means_of_the_paper_but_for_what_the_context_cuts(trace: Any) -> None:
    lengths = trace.lengths(20_000, seed=0)
    assert max(before + after for before, after in lengths) <= bench.CONTEXT
    for found, wanted in zip(
        map(mean, zip(*lengths, strict=True)), (trace.input, trace.output), strict=True
    ):
        assert 0.85 * wanted < found < 1.05 * wanted


def test_samples_save_the_full_blocks_of_their_prompt() -> None:
    """Four samples of 8 tokens after 40: each is in a third block, on two that all share, which
    makes 6 of 12. The state may hold one more, to go on from."""
    found = measured("parallel sampling", 4, [(40, 8)])
    assert 4 * 8 * 3 <= found.alone <= (4 * 8 + 2) * 3, "eight passes each, and the prompt's"
    assert 1 - 7 / 12 - 0.02 < found.saved < 1 - 6 / 12 + 0.02, "all share one block more at first"
    assert found.saved == round(1 - found.held / found.alone, 4)


def test_beams_share_more_than_samples() -> None:
    requests = [(20, 60), (33, 80)]
    saved = [measured(method, 4, requests).saved for method in ("parallel sampling", "beam search")]
    assert 0 < saved[0] < saved[1] < 0.75


def test_wider_searches_save_more() -> None:
    saved = [measured("beam search", width, [(20, 60)]).saved for width in (1, 2, 6)]
    assert saved[0] == 0
    assert saved == sorted(saved)

"""Random mistakes end in an error of the language, or in a program; `make fuzz` goes on longer."""

import time
from random import Random

import pytest

from tests.frontend_lang.syntax.fuzzing import (
    check_graph,
    check_source,
    graph_texts,
    mutated_graph,
    mutated_source,
    sources,
)


def fuzz_sources(count: int, seed: int) -> int:
    """How many of them were programs."""
    random, seeds = Random(seed), sources(30)
    taken = 0
    for _ in range(count):
        text = mutated_source(random, random.choice(seeds), seeds)
        before = time.process_time()
        taken += check_source(text)
        assert time.process_time() - before < 1, text
    return taken


def fuzz_graphs(count: int, seed: int) -> int:
    random, seeds = Random(seed), graph_texts(20)
    taken = 0
    for _ in range(count):
        text = mutated_graph(random, random.choice(seeds), seeds)
        before = time.process_time()
        taken += check_graph(text)
        assert time.process_time() - before < 1, text
    return taken


def test_sources() -> None:
    assert 20 < fuzz_sources(400, 1) < 350


def test_graphs() -> None:
    assert 50 < fuzz_graphs(1_500, 1) < 1_450


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 4))
def test_more_sources(seed: int) -> None:
    fuzz_sources(10_000, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 4))
def test_more_graphs(seed: int) -> None:
    fuzz_graphs(30_000, seed)

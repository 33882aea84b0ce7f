"""The same operations give the same blocks, in any process; and a long drive without Hypothesis."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cache_driver import Driver

from ramet.cache import BlockPool, BlockTable

DRIVER = Path(__file__).with_name("cache_driver.py")
KINDS = [(128, True), (8, True), (2, True), (0, True), (128, False)]


def test_replay_gives_the_same_blocks_whatever_the_hash_seed() -> None:
    runs = {
        subprocess.run(
            [sys.executable, str(DRIVER), "5", "400"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "4242")
    }
    assert len(runs) == 1
    assert len(runs.pop().splitlines()) == 400


def test_blocks_do_not_depend_on_the_key_seed() -> None:
    """Keys differ from process to process; which block is used must not."""
    assert blocks_used(1) == blocks_used(2) == blocks_used(None)


def blocks_used(seed: int | None) -> list[list[int]]:
    pool, used = BlockPool(6, 2, seed=seed), list[list[int]]()
    for text in ([1, 2, 3, 4, 5], [1, 2, 3, 9], [1, 2, 3, 4, 5, 6, 7], [7, 7, 7]):
        table = BlockTable(pool)
        table.adopt(text)
        table.reserve(len(text) - table.length)
        table.commit(text[table.length :])
        used.append(table.blocks.copy())
        table.release()
    return used


def drive(seeds: range, steps: int) -> int:
    done = 0
    for seed in seeds:
        for bits, sharing in KINDS:
            driver = Driver(seed, bits=bits, sharing=sharing)
            for _ in range(steps):
                driver.step()
                driver.world.check()
            driver.world.close()
            done += steps
    return done


@pytest.mark.parametrize("seed", [0, 100, 200, 300])
def test_a_drive(seed: int) -> None:
    assert drive(range(seed, seed + 20), 100) == 10_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_long_drive() -> None:
    assert drive(range(1_000, 11_000), 200) == 10_000_000

"""The noise of a place is numpy's: the uniform floats to the bit, the logarithm within 2 ulp."""

import math
import random

import numpy as np
import pytest
import torch
import triton.language as tl
from torch import Tensor

from ramet.kernels.gpu.jit import kernel
from ramet.kernels.gpu.noise import exponentials, uniforms
from ramet.runtime.sampling.keys import noise

Place = tuple[int, int, int]  # key, position, attempt
EDGES: list[Place] = [(0, 0, 0), (2**128 - 1, 2**63, 1), (2**64 - 1, 2**31, 0), (1 << 64, 1, 2)]


def random_place(rng: random.Random) -> Place:
    return rng.getrandbits(128), rng.randrange(2**17), rng.randrange(2)


def packed(places: list[Place], device: torch.device) -> Tensor:
    words = [(key & 2**64 - 1, key >> 64, position, attempt) for key, position, attempt in places]
    return torch.from_numpy(np.array(words, np.uint64).view(np.int64)).to(device)


@kernel
def _first_uniforms(places: tl.tensor, out: tl.tensor, BLOCKS: tl.constexpr) -> None:
    found = uniforms(
        tl.load(places).to(tl.uint64, bitcast=True),
        tl.load(places + 1).to(tl.uint64, bitcast=True),
        tl.load(places + 2).to(tl.uint64, bitcast=True),
        tl.load(places + 3).to(tl.uint64, bitcast=True),
        (1 + tl.arange(0, BLOCKS)).to(tl.uint64),
    )
    tl.store(out + tl.arange(0, 8 * BLOCKS), found)


def test_uniforms_are_those_of_numpys_philox_to_the_bit(device: torch.device) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for place in [*EDGES, *(random_place(rng) for _ in range(8))]:
        key, position, attempt = place
        raw = np.random.Philox(key=key, counter=attempt << 128 | position << 64).random_raw(64)
        halves = raw.view(np.uint32).astype(np.float32)
        expected = np.minimum(
            (halves + np.float32(0.5)) * np.float32(2.0**-32), np.float32(1 - 2.0**-24)
        )
        found = torch.empty(128, device=device)
        _first_uniforms[(1,)](packed([place], device), found, BLOCKS=16)
        assert np.array_equal(found.cpu().numpy(), expected), f"seed {seed}: {place}"


@pytest.mark.parametrize("count", [1, 7, 8, 65, 512, 513, 832])
def test_exponentials_are_within_two_ulp_of_numpys(count: int, device: torch.device) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    places = [*EDGES, *(random_place(rng) for _ in range(3))]
    found = exponentials(packed(places, device), count).cpu().numpy()
    expected = np.stack([noise(key, at, count, attempt) for key, at, attempt in places])
    ulps = np.abs(found.view(np.int32).astype(np.int64) - expected.view(np.int32))
    assert ulps.max() <= 2, f"seed {seed}"
    assert found.min() > 0
    assert np.isfinite(found).all()


def test_exponentials_are_the_logarithm_rounded_once(device: torch.device) -> None:
    place = random_place(random.Random(7))
    uniform = torch.empty(1024, device=device)
    _first_uniforms[(1,)](packed([place], device), uniform, BLOCKS=128)
    found = exponentials(packed([place], device), 1024)[0].tolist()
    exact = [-math.log1p(-u) for u in uniform.tolist()]
    assert found == torch.tensor(exact, dtype=torch.float64).float().tolist()


def test_no_places_have_no_noise(device: torch.device) -> None:
    assert exponentials(packed(EDGES, device)[:0], 5).shape == (0, 5)

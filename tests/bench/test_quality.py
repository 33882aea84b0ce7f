"""The imitations in bench/quality.py round as int8 does."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from ramet.kernels import int8

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
bench: Any = import_module("quality")


def test_rotated_groups_of_64_are_what_is_built() -> None:
    weight = torch.randn(96, 192, generator=torch.Generator().manual_seed(0))
    imitated = bench.Scheme("", 64, rotated=64).rounded(weight)
    torch.testing.assert_close(imitated, int8.unpack(int8.pack(weight), 192))


@pytest.mark.parametrize("scheme", bench.SCHEMES, ids=lambda scheme: scheme.name)
def test_each_number_is_within_half_a_step(scheme: Any) -> None:
    x = torch.randn(8, 128, generator=torch.Generator().manual_seed(0))
    error = (scheme.rounded(x) - x).pow(2).mean().sqrt()
    # Of uniform rounding: a step over the root of 12; a group's peak is at most 4 or so here.
    assert 0 < error < 4 / 127 / 12**0.5


def test_a_group_with_one_large_number_costs_its_own_and_no_other() -> None:
    x = torch.full((1, 64), 0.5)
    x[0, 0] = 1000.0
    found = bench.Scheme("", 32).rounded(x)
    assert found[0, 1:32].abs().max() == 0
    torch.testing.assert_close(found[0, 32:], x[0, 32:])


def test_zeros_stay_zeros() -> None:
    assert not bench.Scheme("", 32, rotated=64).rounded(torch.zeros(2, 64)).any()


@pytest.mark.parametrize(("weights", "inputs"), [(True, False), (False, True), (False, False)])
def test_what_is_left_alone_is_exact(weights: bool, inputs: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(rows, 64, generator=draw) for rows in (16, 4))
    scheme = bench.Scheme("", 64, weights=weights, inputs=inputs)
    layer = bench.Imitation(scheme, weight)
    wanted = (scheme.rounded(x) if inputs else x) @ (
        scheme.rounded(weight) if weights else weight
    ).T
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer.added_to(torch.ones(4, 16), x), wanted + 1)

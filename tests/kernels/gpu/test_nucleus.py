"""What top-k, top-p and min-p leave on a device is what they leave on a CPU."""

import math
import random

import pytest
import torch
from torch import Tensor

from ramet.kernels.gpu.argmax import argmax
from ramet.kernels.gpu.nucleus import keep
from ramet.params import SamplingParams
from ramet.runtime.sampling.processors import keep_min_p, keep_top_k, keep_top_p
from ramet.runtime.sampling.row import SamplingRow


def narrowed(logits: Tensor, params: list[SamplingParams], device: torch.device) -> Tensor:
    there = logits.to(device, copy=True)
    keep(
        there,
        argmax(there)[0],
        torch.tensor([each.top_k for each in params], dtype=torch.int32, device=device),
        torch.tensor([each.top_p for each in params], device=device),
        torch.tensor(
            [math.log(each.min_p) if each.min_p else -math.inf for each in params], device=device
        ),
    )
    return there.cpu()


def on_cpu(logits: Tensor, params: list[SamplingParams]) -> Tensor:
    rows = [SamplingRow(each, key=1, vocab_size=logits.shape[1]) for each in params]
    expected = logits.clone()
    for process in (keep_top_k, keep_top_p, keep_min_p):
        process(expected, rows)
    return expected


def random_params(rng: random.Random, size: int) -> SamplingParams:
    return SamplingParams(
        temperature=1,
        top_k=rng.choice((0, 1, 2, rng.randrange(1, size + 1), size, size + 1)),
        top_p=rng.choice((1.0, 1e-6, rng.random(), 0.95, 0.999)),
        min_p=rng.choice((0.0, 0.0, rng.random(), 1.0)),
    )


@pytest.mark.parametrize("size", [1, 7, 64, 65, 1000, pytest.param(49_152, marks=pytest.mark.slow)])
def test_what_is_left_is_what_the_cpu_leaves(size: int, device: torch.device) -> None:
    """Where a sum meets p, rounding decides whether one more token stays."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    torch.manual_seed(seed)
    rows = 4
    logits = torch.randn(rows, size) * torch.tensor([[0.1], [1.0], [3.0], [9.0]])
    logits[torch.rand(rows, size) < 0.2] = -math.inf
    logits[:, rng.randrange(size)] = 2.0
    logits[1] = logits[1].round(decimals=1)  # many ties
    logits[2] = torch.where(logits[2] < 0, -logits[2], logits[2])
    params = [random_params(rng, size) for _ in range(rows)]
    found, expected = narrowed(logits, params, device), on_cpu(logits, params)
    assert torch.equal(found[found != -math.inf], logits[found != -math.inf]), f"seed {seed}"
    differ = ((found != expected).sum(1) > 0).sum()
    assert differ <= 1, f"seed {seed}"


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"top_p": 0.5}])
def test_what_ties_with_the_last_is_kept(settings: dict[str, float], device: torch.device) -> None:
    """Of three that tie for the second place, and of both zeros."""
    params = SamplingParams(temperature=1, **settings)  # type: ignore[arg-type]
    logits = torch.tensor([[0.0, -9.0, 1.0, -0.0, 0.0, -20.0]])
    found = narrowed(logits, [params], device)
    assert (found > -math.inf).tolist() == [[True, False, True, True, True, False]]


def test_top_p_is_over_what_top_k_left(device: torch.device) -> None:
    """0.6 of all is two tokens here, and of the likeliest two it is one."""
    logits = torch.tensor([[0.45, 0.25, 0.2, 0.1]]).log()
    both = SamplingParams(temperature=1, top_k=2, top_p=0.6)
    assert (narrowed(logits, [both], device) > -math.inf).tolist() == [[True, False, False, False]]
    alone = SamplingParams(temperature=1, top_p=0.6)
    assert (narrowed(logits, [alone], device) > -math.inf).tolist() == [[True, True, False, False]]


def test_rows_that_ask_nothing_or_are_unsound_stay_as_they_are(device: torch.device) -> None:
    logits = torch.randn(4, 30)
    logits[1] = -math.inf
    logits[2, 3] = math.nan
    logits[3, 4] = math.inf
    params = [SamplingParams(temperature=1)] + [SamplingParams(temperature=1, top_k=1)] * 3
    found = narrowed(logits, params, device)
    torch.testing.assert_close(found, logits, rtol=0, atol=0, equal_nan=True)


def test_a_row_depends_on_no_other(device: torch.device) -> None:
    torch.manual_seed(3)
    logits = torch.randn(3, 500)
    params = [SamplingParams(temperature=1, top_p=0.9), SamplingParams(temperature=1, top_k=9)]
    params.append(SamplingParams(temperature=1, min_p=0.1))
    together = narrowed(logits, params, device)
    alone = [narrowed(logits[i : i + 1], params[i : i + 1], device) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))

"""A row draws what it would draw alone, from the distribution that its parameters describe."""

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ramet.params import SamplingParams
from ramet.runtime.errors import SamplingError
from ramet.runtime.sampling import Draw, Sampler, SamplingRow, sample_key

VOCAB = 517  # no multiple of anything


def row(
    params: SamplingParams, branch: int = 0, vocab_size: int = VOCAB, prompt: Sequence[int] = ()
) -> SamplingRow:
    key = sample_key(3, "node", branch)
    return SamplingRow(params, key=key, vocab_size=vocab_size, prompt=prompt, eos_ids={2})


def random_logits(rng: random.Random, rows: int, vocab: int = VOCAB) -> Tensor:
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    logits = torch.randn(rows, vocab, generator=generator)
    return logits * torch.tensor([[rng.choice((0.3, 1.0, 4.0))] for _ in range(rows)])


def random_params(rng: random.Random) -> SamplingParams:
    """Every parameter set in a good part of the rows."""
    chosen: dict[str, Any] = {
        "temperature": rng.choice((0.2, 0.7, 1.0, 3.0)),
        "top_p": rng.choice((0.1, 0.7, 0.95, 0.999)),
        "top_k": rng.choice((1, 5, 100, 400)),
        "min_p": rng.choice((0.01, 0.2)),
        "repetition_penalty": rng.choice((0.8, 1.3)),
        "presence_penalty": rng.choice((-0.5, 0.7)),
        "frequency_penalty": rng.choice((-0.3, 0.4)),
        "logit_bias": {rng.randrange(VOCAB): rng.uniform(-9, 9) for _ in range(4)},
        "allowed_tokens": [rng.randrange(VOCAB) for _ in range(rng.choice((1, 7, 300)))],
        "min_tokens": rng.randrange(9),
        "stop_tokens": [rng.randrange(VOCAB) for _ in range(3)],
        "logprobs": rng.randrange(6),
    }
    asked = {name for name in chosen if rng.random() < 0.3}
    return SamplingParams(**{name: chosen[name] for name in asked})


def random_row(rng: random.Random) -> SamplingRow:
    prompt = [rng.randrange(VOCAB) for _ in range(rng.randrange(30))]
    made = row(random_params(rng), rng.randrange(1000), prompt=prompt)
    for _ in range(rng.randrange(12)):
        made.accept(rng.randrange(VOCAB))
    return made


def shown(draw: Draw) -> tuple[object, ...]:
    return (draw.token, draw.logprob, draw.top, str(draw.error))


@pytest.mark.parametrize("batches", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_row_draws_the_same_alone_and_in_any_company(batches: int) -> None:
    """In each batch rows are shuffled, some are broken, and each is drawn alone too."""
    rng, sampler = random.Random(41), Sampler()
    for _ in range(batches):
        size = rng.randrange(1, 9)
        logits, rows = random_logits(rng, size), [random_row(rng) for _ in range(size)]
        for broken in range(size):
            if rng.random() < 0.05:
                logits[broken, rng.randrange(VOCAB)] = rng.choice((math.nan, math.inf))
        positions = [rng.randrange(2000) for _ in range(size)]
        order = rng.sample(range(size), size)
        together = sampler.sample(
            logits[order], [rows[i] for i in order], [positions[i] for i in order]
        )
        alone = [
            sampler.sample(logits[i : i + 1].clone(), [rows[i]], [positions[i]])[0] for i in order
        ]
        assert list(map(shown, together)) == list(map(shown, alone))


@pytest.mark.parametrize("vocab", [2048, 8191, 49152])
def test_company_does_not_matter_at_the_sizes_of_real_vocabularies(vocab: int) -> None:
    """Here the kernels split rows over threads and vectors."""
    rng, sampler = random.Random(42), Sampler()
    for _ in range(6):
        rows = [row(random_params(rng), i, vocab_size=vocab) for i in range(9)]
        logits = random_logits(rng, len(rows), vocab)
        together = sampler.sample(logits.clone(), rows, range(9))
        for i, draw in enumerate(together):
            alone = sampler.sample(logits[i : i + 1].clone(), [rows[i]], [i])[0]
            assert shown(draw) == shown(alone)


def test_plain_rows_take_the_first_largest_logit() -> None:
    logits = torch.zeros(3, VOCAB)
    logits[1, 7] = logits[1, 99] = 1.0
    logits[2] = -math.inf
    logits[2, 5] = -50.0
    draws = Sampler().sample(logits, [row(SamplingParams())] * 3, [0] * 3)
    assert draws == [Draw(0), Draw(7), Draw(5)]


def test_plain_rows_leave_the_logits_alone() -> None:
    logits = torch.randn(4, VOCAB)
    before = logits.clone()
    Sampler().sample(logits, [row(SamplingParams(logprobs=2))] * 4, [0] * 4)
    assert torch.equal(logits, before)


def chi_square(counts: Tensor, probabilities: Tensor) -> float:
    """Standard deviations that the statistic is off, over the cells expected 5 times or more."""
    expected = probabilities.double() * counts.sum()
    cells = expected >= 5
    degrees = int(cells.sum()) - 1
    statistic = ((counts[cells] - expected[cells]) ** 2 / expected[cells]).sum()
    return float((statistic - degrees) / math.sqrt(2 * degrees))


def drawn_counts(logits: Tensor, params: SamplingParams, count: int) -> Tensor:
    """How often each token is drawn, half over branches and half over positions."""
    vocab = len(logits)
    tokens: list[int] = []
    for start in range(0, count, 500):
        rows = [row(params, i, vocab_size=vocab) for i in range(start, start + 500)]
        batch = logits.expand(len(rows), -1).clone()
        tokens += [draw.token for draw in Sampler().sample(batch, rows, [start] * len(rows))]
    return torch.bincount(torch.tensor(tokens), minlength=vocab)


@pytest.mark.parametrize(("vocab", "temperature"), [(7, 0.7), (64, 2.0), (517, 1.0)])
def test_draws_have_the_softmax_distribution(vocab: int, temperature: float) -> None:
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(vocab)) * 2
    counts = drawn_counts(logits, SamplingParams(temperature=temperature), 8_000)
    assert abs(chi_square(counts, (logits / temperature).softmax(-1))) < 4


def test_draws_after_truncation_have_the_rest_of_the_distribution() -> None:
    logits = torch.randn(517, generator=torch.Generator().manual_seed(1))
    kept = logits.masked_fill(logits < logits.topk(20).values[-1], -math.inf)
    counts = drawn_counts(logits, SamplingParams(temperature=1, top_k=20), 8_000)
    assert counts[kept == -math.inf].sum() == 0
    assert abs(chi_square(counts, kept.softmax(-1))) < 4


def test_draws_of_neighbouring_positions_and_branches_are_independent() -> None:
    """The pairs of two draws are as frequent as the product of their probabilities."""
    logits = torch.tensor([0.0, 0.5, 1.0, 1.5])
    probabilities = logits.softmax(-1)
    params = SamplingParams(temperature=1)
    rows = [row(params, i, vocab_size=4) for i in range(4000)]
    draws = [
        [
            draw.token
            for draw in Sampler().sample(logits.expand(4000, -1).clone(), rows, [at] * 4000)
        ]
        for at in (0, 1)
    ]
    first, second = torch.tensor(draws[0]), torch.tensor(draws[1])
    joint = (probabilities[:, None] * probabilities).flatten()
    for a, b in ((first, second), (first[:-1], first[1:])):
        assert abs(chi_square(torch.bincount(a * 4 + b, minlength=16), joint)) < 4


def test_a_draw_depends_on_key_and_position() -> None:
    logits = torch.zeros(1, VOCAB)
    params = SamplingParams(temperature=1)
    tokens = {
        (branch, position): Sampler()
        .sample(logits.clone(), [row(params, branch)], [position])[0]
        .token
        for branch in range(8)
        for position in range(8)
    }
    assert len(set(tokens.values())) > 50


def test_logprobs_are_the_models_own() -> None:
    logits = random_logits(random.Random(43), 4)
    expected = logits.log_softmax(-1)
    params = [
        SamplingParams(logprobs=3),
        SamplingParams(logprobs=0, temperature=0.5, top_k=5),
        SamplingParams(temperature=1.0),
        SamplingParams(logprobs=2, allowed_tokens=[5]),
    ]
    draws = Sampler().sample(
        logits.clone(), [row(each, i) for i, each in enumerate(params)], [0] * 4
    )
    for i in (0, 1, 3):
        assert draws[i].logprob == float(expected[i, draws[i].token])
    assert draws[2].logprob is None
    best = expected[0].topk(3)
    assert draws[0].top == tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    assert [len(draw.top) for draw in draws] == [3, 0, 0, 2]
    assert draws[3].token == 5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("params", [{}, {"temperature": 1.0}, {"logprobs": 3}, {"top_p": 0.5}])
def test_unsound_logits_are_an_error_of_their_row_alone(bad: float, params: dict[str, Any]) -> None:
    rng = random.Random(44)
    rows = [row(SamplingParams(**params), i) for i in range(3)]
    logits = random_logits(rng, 3)
    fine = Sampler().sample(logits.clone(), rows, [0] * 3)
    logits[1, 100] = bad
    draws = Sampler().sample(logits, rows, [0] * 3)
    assert isinstance(draws[1].error, SamplingError)
    assert "NaN or infinity" in str(draws[1].error)
    assert [draws[0], draws[2]] == [fine[0], fine[2]]


def test_a_row_with_every_token_ruled_out_is_an_error() -> None:
    rows = [
        row(SamplingParams(allowed_tokens=[2], min_tokens=1)),
        row(SamplingParams(allowed_tokens=[2], min_tokens=1, temperature=1.0, logprobs=1)),
        row(SamplingParams()),
        row(SamplingParams()),
    ]
    logits = torch.zeros(4, VOCAB)
    logits[3] = -math.inf
    draws = Sampler().sample(logits, rows, [0] * 4)
    assert [str(draw.error)[:24] for draw in draws[:2]] == ["every token is ruled out"] * 2
    assert draws[2] == Draw(0)
    assert "all masked" in str(draws[3].error)


def test_low_precision_logits_are_drawn_in_float32() -> None:
    logits = random_logits(random.Random(45), 2).bfloat16()
    rows = [row(SamplingParams(temperature=1.0, logprobs=1), i) for i in range(2)]
    low = Sampler().sample(logits, rows, [0, 0])
    assert list(map(shown, low)) == list(map(shown, Sampler().sample(logits.float(), rows, [0, 0])))

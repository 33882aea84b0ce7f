"""Each processor does what its formula says, to the rows that ask and to no other."""

import math
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ramet.params import SamplingParams
from ramet.runtime.sampling import processors
from ramet.runtime.sampling.processors import PROCESSORS, Rows
from ramet.runtime.sampling.row import SamplingRow

VOCAB = 3000
Processor = Callable[[Tensor, Rows], None]


def row(params: SamplingParams, prompt: list[int] | None = None) -> SamplingRow:
    return SamplingRow(params, key=1, vocab_size=VOCAB, prompt=prompt or [], eos_ids={2})


def flat(seed: int, rows: int = 1, scale: float = 1.0) -> Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * scale


def check(processor: Processor, params: SamplingParams, other: LogitsProcessor) -> None:
    """Equal to `transformers` on narrow and wide distributions."""
    for seed, scale in enumerate((0.1, 1.0, 3.0, 10.0)):
        logits = flat(seed, scale=scale)
        expected = other(torch.LongTensor(1, 0), logits.clone())
        processor(logits, [row(params)])
        torch.testing.assert_close(logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize("k", [1, 2, 50, 1500, VOCAB, VOCAB + 1])
def test_top_k_is_that_of_transformers(k: int) -> None:
    check(processors.keep_top_k, SamplingParams(temperature=1, top_k=k), TopKLogitsWarper(k))


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.95, 0.999])
def test_top_p_is_that_of_transformers(p: float) -> None:
    check(processors.keep_top_p, SamplingParams(temperature=1, top_p=p), TopPLogitsWarper(p))


@pytest.mark.parametrize("p", [1e-4, 0.05, 0.5, 1.0])
def test_min_p_is_that_of_transformers(p: float) -> None:
    check(processors.keep_min_p, SamplingParams(temperature=1, min_p=p), MinPLogitsWarper(p))


@pytest.mark.parametrize("temperature", [0.01, 0.7, 1.0, 5.0])
def test_temperature_is_that_of_transformers(temperature: float) -> None:
    params = SamplingParams(temperature=temperature)
    check(processors.divide_by_temperature, params, TemperatureLogitsWarper(temperature))


@pytest.mark.parametrize("penalty", [0.5, 1.2, 3.0])
def test_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    rng = random.Random(1)
    prompt = [rng.randrange(VOCAB) for _ in range(300)]
    output = [rng.randrange(VOCAB) for _ in range(200)] * 2
    asks = row(SamplingParams(repetition_penalty=penalty), prompt)
    for token in output:
        asks.accept(token)
    logits = flat(5)
    other = RepetitionPenaltyLogitsProcessor(penalty)
    expected = other(torch.LongTensor([prompt + output]), logits.clone())
    processors.penalise_repetition(logits, [asks])
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)


def test_all_together_in_the_order_of_transformers() -> None:
    params = SamplingParams(
        temperature=0.7, top_k=40, top_p=0.8, min_p=0.02, repetition_penalty=1.3
    )
    others = (
        RepetitionPenaltyLogitsProcessor(1.3),
        TemperatureLogitsWarper(0.7),
        TopKLogitsWarper(40),
        TopPLogitsWarper(0.8),
        MinPLogitsWarper(0.02),
    )
    for seed in range(20):
        logits = flat(seed, scale=3.0)
        expected, prompt = logits.clone(), list(range(0, VOCAB, 7))
        for other in others:
            expected = other(torch.LongTensor([prompt]), expected)
        for process in PROCESSORS:
            process(logits, [row(params, prompt)])
        torch.testing.assert_close(logits, expected, rtol=0, atol=0)


def test_presence_and_frequency_count_the_output_alone() -> None:
    asks = row(SamplingParams(presence_penalty=0.5, frequency_penalty=0.25), prompt=[1, 2, 3])
    for token in (3, 4, 4):
        asks.accept(token)
    logits = torch.zeros(1, VOCAB)
    processors.penalise_presence(logits, [asks])
    assert logits[0, :5].tolist() == [0, 0, 0, -0.75, -1.0]
    assert not logits[0, 5:].any()


def test_presence_counts_the_output_where_the_repetition_penalty_knows_the_prompt() -> None:
    asks = row(SamplingParams(presence_penalty=0.5, repetition_penalty=2.0), prompt=[1])
    asks.accept(2)
    logits = torch.ones(1, VOCAB)
    for process in PROCESSORS:
        process(logits, [asks])
    assert logits[0, :4].tolist() == [1, 0.5, 0, 1]


def test_bias_is_added_and_allowed_tokens_are_kept() -> None:
    asks = row(SamplingParams(logit_bias={1: 2.0, 3: -100.0}, allowed_tokens=[1, 2, 3]))
    logits = torch.ones(1, VOCAB)
    for process in PROCESSORS:
        process(logits, [asks])
    assert logits[0, :4].tolist() == [-math.inf, 3, 1, -99]
    assert (logits[0, 4:] == -math.inf).all()


def test_ends_are_forbidden_while_there_are_too_few_tokens() -> None:
    asks = row(SamplingParams(min_tokens=1, stop_tokens=[5]))
    for expected in ({2, 5}, set()):
        logits = torch.zeros(1, VOCAB)
        processors.forbid_ends(logits, [asks])
        assert set(torch.isinf(logits[0]).nonzero().flatten().tolist()) == expected
        asks.accept(0)


@pytest.mark.parametrize("processor", [processors.keep_top_k, processors.keep_top_p])
def test_what_ties_at_the_edge_stays(processor: Processor) -> None:
    params = SamplingParams(temperature=1, top_k=2, top_p=0.4)
    logits = torch.full((1, VOCAB), -20.0)
    logits[0, [4, 9, 11]] = 3.0
    processor(logits, [row(params)])
    assert (logits[0] > -math.inf).nonzero().flatten().tolist() == [4, 9, 11]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1, top_k=1),
        SamplingParams(temperature=1, top_p=1e-6),
        SamplingParams(temperature=1, min_p=1.0),
        SamplingParams(temperature=0.001, top_k=1, top_p=1e-6, min_p=1.0),
    ],
)
def test_at_least_one_token_stays(params: SamplingParams) -> None:
    for seed in range(10):
        logits = flat(seed, scale=5.0)
        best = int(logits.argmax())
        for process in PROCESSORS:
            process(logits, [row(params)])
        assert (logits[0] > -math.inf).nonzero().flatten().tolist() == [best]


def test_rows_that_ask_for_nothing_are_not_touched() -> None:
    everything = SamplingParams(
        temperature=0.5,
        top_k=3,
        top_p=0.5,
        min_p=0.1,
        repetition_penalty=2.0,
        presence_penalty=1.0,
        logit_bias={1: 5.0},
        allowed_tokens=[1, 2, 3, 4, 5],
        min_tokens=3,
    )
    logits = flat(3, rows=3)
    before = logits.clone()
    rows = [row(SamplingParams()), row(everything, [1, 2]), row(SamplingParams(temperature=1))]
    for process in PROCESSORS:
        process(logits, rows)
    assert torch.equal(logits[[0, 2]], before[[0, 2]])
    assert not torch.equal(logits[1], before[1])
